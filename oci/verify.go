package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync/atomic"
)

// verifier checks size and digest of what is read through it: instead of io.EOF
// it returns an error when either is wrong.
type verifier struct {
	r      io.Reader
	digest string
	size   int64
	n      atomic.Int64 // bytes read; progress is shown from another goroutine
	h      hash.Hash
	err    error // sticks
}

func newVerifier(r io.Reader, digest string, size int64) *verifier {
	return &verifier{r: r, digest: digest, size: size, h: sha256.New()}
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.r.Read(p)
	v.h.Write(p[:n])
	total := v.n.Add(int64(n))
	switch {
	case total > v.size:
		err = badImage(fmt.Errorf("blob has more than the %d bytes that the manifest says", v.size))
	case err == io.EOF && total < v.size:
		err = badImage(fmt.Errorf("blob has %d bytes, the manifest says %d", total, v.size))
	case err == io.EOF:
		if got := "sha256:" + hex.EncodeToString(v.h.Sum(nil)); got != v.digest {
			err = badImage(fmt.Errorf("blob does not match its digest: the content has %s", got))
		}
	}
	v.err = err
	return n, err
}

// drain reads what is left and returns nil when all of it is right.
func (v *verifier) drain() error {
	_, err := io.Copy(io.Discard, v)
	return err
}

var _ io.Reader = (*verifier)(nil)
