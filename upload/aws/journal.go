package aws

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A journal is the list of the blocks of a snapshot that EBS has confirmed.
// ListSnapshotBlocks would tell, but not of a snapshot that is still pending.
//
// It is a file beside the cache, written as confirmations come: the header, then
// a record a block in no order, without a count; a record cut short by a crash is
// dropped. Integers are big-endian. CompleteSnapshot checks the sum of all blocks,
// so that a wrong journal cannot make a wrong snapshot.
type journal struct {
	mu   sync.Mutex
	file *os.File // nil keeps nothing
	path string
}

const (
	journalMagic  = "imgbuild EBS 1\n\x00"
	sizeJournal   = len(journalMagic) + 16 // and the first half of the disk's token
	sizeRecord    = 4 + sha256.Size        // block index, digest
	journalSuffix = ".blocks"
)

// sums are digests of blocks by their index.
type sums map[int32][sha256.Size]byte

// openJournal returns what is known of a snapshot of the disk called token, which
// has that many blocks, and the journal to add to. Without a directory nothing is
// known or kept.
func openJournal(dir, snapshot, token string, blocks int64) (*journal, sums, error) {
	if dir == "" {
		return &journal{}, sums{}, nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, snapshot+journalSuffix)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, nil, err
	}
	known, end, err := readJournal(bufio.NewReader(f), token, blocks)
	if err == nil && end == 0 {
		dropJournals(dir, f)
		end = int64(sizeJournal)
		_, err = f.WriteAt(journalHeader(token), 0)
	}
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return &journal{file: f, path: path}, known, nil
}

// journalAge is how long after its last block a snapshot may still be pending, and
// half as long again.
const journalAge = keepMinutes * 3 / 2 * time.Minute

// dropJournals removes those that killed uploads left, of snapshots that have ended
// since. created is a journal that is new, which tells the time.
func dropJournals(dir string, created *os.File) {
	now, err := created.Stat()
	if err != nil {
		return
	}
	list, _ := filepath.Glob(filepath.Join(dir, "snap-*"+journalSuffix))
	for _, path := range list {
		if info, err := os.Lstat(path); err == nil && now.ModTime().Sub(info.ModTime()) > journalAge {
			os.Remove(path)
		}
	}
}

func journalHeader(token string) []byte {
	return append([]byte(journalMagic), fmt.Sprintf("%.16s", token+"0123456789abcdef")...)
}

// errOtherDisk is a journal, or a snapshot, of a disk that is not this one.
var errOtherDisk = errors.New("belongs to another disk")

// readJournal returns the records and where they end; 0 in an empty file.
func readJournal(r io.Reader, token string, blocks int64) (known sums, end int64, err error) {
	known = sums{}
	header := make([]byte, sizeJournal)
	switch n, err := io.ReadFull(r, header); {
	case n == 0 && err == io.EOF:
		return known, 0, nil
	case err != nil:
		return nil, 0, errors.New("no journal of an upload")
	case string(header[:len(journalMagic)]) != journalMagic:
		return nil, 0, errors.New("no journal of an upload")
	case string(header) != string(journalHeader(token)):
		return nil, 0, errOtherDisk
	}
	end = int64(sizeJournal)
	record := make([]byte, sizeRecord)
	for {
		switch _, err := io.ReadFull(r, record); err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return known, end, nil
		default:
			return nil, 0, err
		}
		end += sizeRecord
		index := binary.BigEndian.Uint32(record)
		if int64(index) >= blocks {
			return nil, 0, errOtherDisk
		}
		known[int32(index)] = [sha256.Size]byte(record[4:])
	}
}

// add notes that a block was confirmed. After an error nothing more is kept.
func (j *journal) add(index int32, sum [sha256.Size]byte) error {
	record := binary.BigEndian.AppendUint32(make([]byte, 0, sizeRecord), uint32(index))
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	_, err := j.file.Write(append(record, sum[:]...))
	if err != nil {
		j.file.Close()
		j.file = nil
	}
	return err
}

// close ends the journal, and removes it where the snapshot is complete.
func (j *journal) close(complete bool) {
	if j.file != nil {
		j.file.Close()
		j.file = nil
	}
	if complete && j.path != "" {
		os.Remove(j.path)
	}
}

// removeJournal removes that of a snapshot that is gone.
func removeJournal(dir, snapshot string) {
	if dir != "" {
		os.Remove(filepath.Join(dir, snapshot+journalSuffix))
	}
}
