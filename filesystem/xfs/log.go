package xfs

import "encoding/binary"

// logRecordSize is the size of a log record with a single header
// (XLOG_BIG_RECORD_BSIZE).
const logRecordSize = 32 << 10

// encodeLog returns the start of a log that was left clean: one record, that
// the file system was unmounted. unit is the stripe unit of the log in bytes,
// which the record is padded to.
func encodeLog(uuid [16]byte, unit uint32) []byte {
	const (
		magic       = 0xfeedbabe
		cycle       = 1
		unmount     = 0xb0c0d0d0 // oh_tid
		client      = 0xaa       // XFS_LOG
		flagUnmount = 0x20
		typeUnmount = 0x556e // "Un", little-endian
		linux       = 1      // h_fmt: little-endian
	)
	be := binary.BigEndian
	b := make([]byte, max(unit, 2*basicBlock))
	be.PutUint32(b[0:], magic)
	be.PutUint32(b[4:], cycle)
	be.PutUint32(b[8:], 2) // version
	be.PutUint32(b[12:], uint32(len(b)-basicBlock))
	be.PutUint32(b[16:], cycle) // h_lsn: cycle, block
	be.PutUint32(b[24:], cycle) // h_tail_lsn
	be.PutUint32(b[36:], nullBlock)
	be.PutUint32(b[40:], 1)       // h_num_logops
	be.PutUint32(b[44:], unmount) // h_cycle_data[0]: what the stamp below replaces
	be.PutUint32(b[300:], linux)
	copy(b[304:320], uuid[:])
	be.PutUint32(b[320:], logRecordSize)
	for at := basicBlock; at < len(b); at += basicBlock {
		be.PutUint32(b[at:], cycle)
	}
	be.PutUint32(b[basicBlock+4:], 8) // oh_len
	b[basicBlock+8], b[basicBlock+9] = client, flagUnmount
	binary.LittleEndian.PutUint16(b[basicBlock+12:], typeUnmount)
	return b
}
