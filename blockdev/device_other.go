//go:build !linux

package blockdev

import "os"

func openExclusive(string) (*os.File, error) { return nil, unsupported() }

func sectorSize(*os.File) (int, error) { return 0, unsupported() }

func zeroOut(*os.File, int64, int64, bool) bool { return false }

// Reread does nothing: only files are written here.
func (v *Device) Reread() error { return nil }

// AddPartition is special to Linux.
func (v *Device) AddPartition(int, int64, int64) error { return unsupported() }

// RemovePartition is special to Linux.
func (v *Device) RemovePartition(int) error { return unsupported() }

func explain(err error) error { return err }

func hint(error) string { return "" }

type writeback struct{}

func newWriteback(*os.File) *writeback        { return &writeback{} }
func (b *writeback) wrote(int64, int64) error { return nil }
func (b *writeback) flush() error             { return nil }
