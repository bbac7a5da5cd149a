package composefs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Verity is a writer that measures what is written to it: the fs-verity digest
// of the kernel's documentation (filesystems/fsverity.rst, "File digest
// computation") with SHA-256, 4096-byte blocks and no salt. It holds one block
// for each level of the Merkle tree. The zero Verity is ready for use; it must
// not be copied after the first write.
type Verity struct {
	size   uint64
	block  [blockSize]byte // data, size%blockSize bytes of it
	levels []*hashBlock    // of the Merkle tree, above the data
}

// hashBlock is the last block of a level of the Merkle tree.
type hashBlock struct {
	block  [blockSize]byte
	hashes uint64 // of the whole level
}

// add appends a hash to the level; the caller empties a full block.
func (h *hashBlock) add(sum [sha256.Size]byte) (full bool) {
	const perBlock = blockSize / sha256.Size
	copy(h.block[h.hashes%perBlock*sha256.Size:], sum[:])
	h.hashes++
	return h.hashes%perBlock == 0
}

// Write implements io.Writer. It never fails.
func (v *Verity) Write(p []byte) (int, error) {
	written := len(p)
	if fill := int(v.size % blockSize); fill > 0 {
		n := copy(v.block[fill:], p)
		v.size += uint64(n)
		p = p[n:]
		if fill+n == blockSize {
			v.add(0, sha256.Sum256(v.block[:]))
		}
	}
	for ; len(p) >= blockSize; p = p[blockSize:] {
		v.size += blockSize
		v.add(0, sha256.Sum256(p[:blockSize]))
	}
	if len(p) > 0 {
		v.size += uint64(copy(v.block[:], p))
	}
	return written, nil
}

// add appends the hash of a block to the level above it.
func (v *Verity) add(level int, sum [sha256.Size]byte) {
	for ; ; level++ {
		if level == len(v.levels) {
			v.levels = append(v.levels, new(hashBlock))
		}
		h := v.levels[level]
		if !h.add(sum) {
			return
		}
		sum = sha256.Sum256(h.block[:])
		clear(h.block[:])
	}
}

// Sum returns the digest of what was written. Nothing can be written after it
// but after a Reset.
func (v *Verity) Sum() [32]byte {
	if fill := v.size % blockSize; fill > 0 {
		clear(v.block[fill:])
		v.add(0, sha256.Sum256(v.block[:]))
	}
	// The root is the only hash of the highest level. A level that is not full
	// is padded with zeros and hashed like the others.
	var root [sha256.Size]byte
	for level := 0; level < len(v.levels); level++ {
		h := v.levels[level]
		if h.hashes <= 1 {
			root = [sha256.Size]byte(h.block[:])
			break
		}
		if h.hashes%(blockSize/sha256.Size) != 0 {
			v.add(level+1, sha256.Sum256(h.block[:]))
		}
	}
	return descriptorDigest(v.size, root)
}

// Reset makes the Verity as new, for another content.
func (v *Verity) Reset() {
	v.size = 0
	for _, h := range v.levels {
		*h = hashBlock{}
	}
}

// descriptorDigest returns the SHA-256 of struct fsverity_descriptor, which is
// the digest of the file.
func descriptorDigest(size uint64, root [sha256.Size]byte) [32]byte {
	const version, algorithmSHA256, sizeDescriptor = 1, 1, 256
	var d [sizeDescriptor]byte
	d[0x00] = version
	d[0x01] = algorithmSHA256
	d[0x02] = blockBits
	// 0x03: length of the salt; 0x04: length of the signature
	binary.LittleEndian.PutUint64(d[0x08:], size)
	copy(d[0x10:], root[:]) // 64 bytes
	// 0x50: salt, 32 bytes; 0x70: reserved
	return sha256.Sum256(d[:])
}

// FSVerity returns the fs-verity digest of the content of r, as [Verity] has
// it. It is an error when r does not end after size bytes.
func FSVerity(r io.Reader, size int64) ([32]byte, error) {
	var v Verity
	n, err := io.Copy(&v, io.LimitReader(r, size))
	if err == nil && n == size {
		err = expectEOF(r)
	} else if err == nil {
		err = fmt.Errorf("%w after %d of %d bytes", io.ErrUnexpectedEOF, n, size)
	}
	if err != nil {
		return [32]byte{}, fmt.Errorf("measure: %w", err)
	}
	return v.Sum(), nil
}

// expectEOF returns an error when there is more to read.
func expectEOF(r io.Reader) error {
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return errors.New("content is longer than its size")
	case err != io.EOF:
		return err
	}
	return nil
}
