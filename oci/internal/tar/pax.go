package tar

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// pax holds the records of a pax header that matter here. An empty value is the
// same as no record, but for extended attributes.
type pax struct {
	path, linkpath, size, uid, gid, mtime string

	// GNU.sparse.*; blocks is the map of 0.0, spelled as that of 0.1.
	major, minor, name, fileSize, realSize, sparseMap, numBlocks string

	xattrs []Xattr
}

const (
	prefixSchily     = "SCHILY.xattr."
	prefixLibarchive = "LIBARCHIVE.xattr."
)

var errRecord = errors.New("malformed pax record")

// parsePax parses the body of a pax header: records "%d key=value\n", each with
// its length in front.
func (r *Reader) parsePax(body []byte) (*pax, error) {
	p := &pax{}
	var blocks []string // of sparse format 0.0: offset, length, offset, …
	for len(body) > 0 {
		key, value, rest, err := record(body)
		if err != nil {
			return nil, err
		}
		body = rest
		switch k := string(key); k {
		case "path", "linkpath", "uname", "gname":
			if bytes.IndexByte(value, 0) >= 0 {
				return nil, fmt.Errorf("pax record %s with a NUL", k)
			}
			switch k {
			case "path":
				p.path = string(value)
			case "linkpath":
				p.linkpath = string(value)
			}
		case "size":
			p.size = string(value)
		case "uid":
			p.uid = string(value)
		case "gid":
			p.gid = string(value)
		case "mtime":
			p.mtime = string(value)
		case "GNU.sparse.major":
			p.major = string(value)
		case "GNU.sparse.minor":
			p.minor = string(value)
		case "GNU.sparse.name":
			p.name = string(value)
		case "GNU.sparse.size":
			p.fileSize = string(value)
		case "GNU.sparse.realsize":
			p.realSize = string(value)
		case "GNU.sparse.map":
			p.sparseMap = string(value)
		case "GNU.sparse.numblocks":
			p.numBlocks = string(value)
		case "GNU.sparse.offset", "GNU.sparse.numbytes":
			if (len(blocks)%2 == 0) != (k == "GNU.sparse.offset") || bytes.IndexByte(value, ',') >= 0 {
				return nil, errRecord
			}
			blocks = append(blocks, string(value))
		default:
			if err := r.paxXattr(p, key, value); err != nil {
				return nil, err
			}
		}
	}
	if len(blocks) > 0 {
		p.sparseMap = strings.Join(blocks, ",")
	}
	return p, nil
}

// record cuts the first record off body.
func record(body []byte) (key, value, rest []byte, err error) {
	digits := bytes.IndexByte(body[:min(len(body), 20)], ' ')
	if digits <= 0 {
		return nil, nil, nil, errRecord
	}
	n, err := strconv.ParseInt(string(body[:digits]), 10, 0)
	if err != nil || n < 5 || n > int64(len(body)) || n <= int64(digits)+1 {
		return nil, nil, nil, errRecord
	}
	rec, rest := body[digits+1:n], body[n:]
	if rec[len(rec)-1] != '\n' {
		return nil, nil, nil, errRecord
	}
	key, value, ok := bytes.Cut(rec[:len(rec)-1], []byte{'='})
	if !ok || len(key) == 0 || bytes.IndexByte(key, 0) >= 0 {
		return nil, nil, nil, errRecord
	}
	return key, value, rest, nil
}

// paxXattr takes an extended attribute from a record, if it is one. libarchive
// writes each twice; the spelling of star is the raw value, its own has the name
// percent-encoded and the value in base64, mostly without padding.
func (r *Reader) paxXattr(p *pax, key, value []byte) error {
	var name string
	switch {
	case bytes.HasPrefix(key, []byte(prefixSchily)):
		name = r.intern(key[len(prefixSchily):])
	case bytes.HasPrefix(key, []byte(prefixLibarchive)):
		n, err := url.PathUnescape(string(key[len(prefixLibarchive):]))
		if err != nil {
			return fmt.Errorf("pax record %q: %w", key, errRecord)
		}
		name = r.intern([]byte(n))
		b := make([]byte, base64.RawStdEncoding.DecodedLen(len(value)))
		k, err := base64.RawStdEncoding.Decode(b, bytes.TrimRight(value, "="))
		if err != nil {
			return fmt.Errorf("pax record %q: %w", key, errRecord)
		}
		value = b[:k]
	default:
		return nil
	}
	if name == "" {
		return fmt.Errorf("pax record %q: %w", key, errRecord)
	}
	for i := range p.xattrs {
		if p.xattrs[i].Name == name {
			p.xattrs[i].Value = r.intern(value)
			return nil
		}
	}
	if len(p.xattrs) == maxXattrs {
		return fmt.Errorf("more than %d extended attributes", maxXattrs)
	}
	p.xattrs = append(p.xattrs, Xattr{Name: name, Value: r.intern(value)})
	return nil
}

// maxXattrs is far more than any file system holds in an inode, and keeps the
// search for duplicates short.
const maxXattrs = 1024

// apply overrides the fields of h by the records.
func (p *pax) apply(h *Header) error {
	if p.path != "" {
		h.Name = p.path
	}
	if p.linkpath != "" {
		h.Linkname = p.linkpath
	}
	for _, f := range []struct {
		key, value string
		to         *int64
	}{{"size", p.size, &h.Size}, {"uid", p.uid, &h.UID}, {"gid", p.gid, &h.GID}} {
		if f.value == "" {
			continue
		}
		n, err := strconv.ParseInt(f.value, 10, 64)
		if err != nil {
			return fmt.Errorf("pax record %s: invalid number", f.key)
		}
		*f.to = n
	}
	if p.mtime != "" {
		n, ok := paxTime(p.mtime)
		if !ok {
			return errors.New("pax record mtime: invalid time")
		}
		h.Mtime = n
	}
	h.Xattrs = p.xattrs
	return nil
}

// paxTime parses "%d.%d" and rounds down to seconds.
func paxTime(s string) (seconds int64, ok bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, false
	}
	exact := true
	for i, c := range []byte(fraction) {
		if c < '0' || c > '9' {
			return 0, false
		}
		// Nanoseconds is what times are read in.
		if c != '0' && i < 9 {
			exact = false
		}
	}
	if whole[0] == '-' && !exact {
		if n--; n > 0 {
			return 0, false
		}
	}
	return n, true
}
