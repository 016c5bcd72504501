package posix

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The kernel's form of a POSIX ACL in an extended attribute (include/uapi/linux/posix_acl_xattr.h): a version, 2, in 32 bits, then for each entry
// tag and permissions in 16 bits and the id in 32, all little endian.
const (
	aclVersion  = 2
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
	aclNoID     = 0xffffffff
)

// parseACL reads the short text form, "u::rw-,u:65534:r--,g::r--,m::rwx,o::---".
func parseACL(text string) ([]byte, error) {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range strings.Split(text, ",") {
		part := strings.Split(e, ":")
		if len(part) != 3 {
			return nil, &badScript{"acl entry " + e}
		}
		tag := map[string]uint16{"u": aclUserObj, "g": aclGroupObj, "m": aclMask, "o": aclOther}[part[0]]
		id := uint32(aclNoID)
		if part[1] != "" {
			n, err := strconv.ParseUint(part[1], 10, 32)
			if err != nil {
				return nil, &badScript{err.Error()}
			}
			id, tag = uint32(n), tag<<1
		}
		var perm uint16
		for i, c := range "rwx" {
			if strings.ContainsRune(part[2], c) {
				perm |= 4 >> i
			}
		}
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, perm)
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	return b, nil
}

func formatACL(b []byte) string {
	var out []string
	for b = b[min(4, len(b)):]; len(b) >= 8; b = b[8:] {
		tag, perm, id := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		s := map[uint16]string{aclUserObj: "u:", aclUser: "u:", aclGroupObj: "g:", aclGroup: "g:", aclMask: "m:", aclOther: "o:"}[tag]
		if tag == aclUser || tag == aclGroup {
			s += fmt.Sprint(id)
		}
		s += ":"
		for i, c := range "rwx" {
			if perm&(4>>i) == 0 {
				c = '-'
			}
			s += string(c)
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}

func (m *Machine) setacl(a []string) (values, error) {
	b, err := parseACL(a[2])
	if err != nil {
		return nil, err
	}
	return nil, unix.Lsetxattr(a[0], "system.posix_acl_"+a[1], b, 0)
}

func (m *Machine) getacl(a []string) (values, error) {
	buf := make([]byte, 4096)
	n, err := unix.Lgetxattr(a[0], "system.posix_acl_"+a[1], buf)
	if err != nil {
		return nil, err
	}
	return one(formatACL(buf[:n])), nil
}

func (m *Machine) removeacl(a []string) (values, error) {
	return nil, unix.Lremovexattr(a[0], "system.posix_acl_"+a[1])
}
