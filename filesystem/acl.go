package filesystem

import (
	"encoding/binary"
	"fmt"
)

// ACLEntry is an entry of an access control list.
type ACLEntry struct {
	Tag, Perm uint16
	ID        uint32 // of a user or group, else 1<<32 - 1
}

// Tags of the entries of an access control list.
const (
	ACLUserObj  = 0x01
	ACLUser     = 0x02
	ACLGroupObj = 0x04
	ACLGroup    = 0x08
	ACLMask     = 0x10
	ACLOther    = 0x20
)

// ParseACL returns the entries of an access control list in the form that Linux
// gives to programs, struct posix_acl_xattr_header: the value of
// system.posix_acl_access and system.posix_acl_default.
func ParseACL(value string) ([]ACLEntry, error) {
	const (
		sizeHead, sizeEntry = 4, 8
		version             = 2 // POSIX_ACL_XATTR_VERSION
		nobody              = 1<<32 - 1
	)
	le := binary.LittleEndian
	in := []byte(value)
	if len(in) < sizeHead || (len(in)-sizeHead)%sizeEntry != 0 || le.Uint32(in) != version {
		return nil, fmt.Errorf("invalid access control list of %d bytes", len(in))
	}
	list := make([]ACLEntry, 0, (len(in)-sizeHead)/sizeEntry)
	for b := in[sizeHead:]; len(b) > 0; b = b[sizeEntry:] {
		e := ACLEntry{Tag: le.Uint16(b), Perm: le.Uint16(b[2:]), ID: nobody}
		switch e.Tag {
		case ACLUserObj, ACLGroupObj, ACLMask, ACLOther:
		case ACLUser, ACLGroup:
			e.ID = le.Uint32(b[4:])
		default:
			return nil, fmt.Errorf("invalid access control list: tag %#x", e.Tag)
		}
		list = append(list, e)
	}
	return list, nil
}
