package udpio

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// sendControl is the control data of a sendmsg(2): the segment size and the source address. It is never changed.
type sendControl struct {
	seg  int
	from netip.Addr
	oob  []byte
}

func newSendControl(from netip.Addr, seg int, is6 bool) *sendControl {
	c := &sendControl{seg: seg, from: from}
	if seg > 0 {
		var v [2]byte
		binary.NativeEndian.PutUint16(v[:], uint16(seg))
		c.oob = appendControl(c.oob, unix.IPPROTO_UDP, unix.UDP_SEGMENT, v[:])
	}
	switch {
	case !from.IsValid():
	case is6: // an IPv4 address in its mapped form, which the kernel takes here for IPv4 destinations
		a := from.As16()
		c.oob = appendControl(c.oob, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, append(a[:], 0, 0, 0, 0))
	case from.Unmap().Is4():
		a := from.Unmap().As4()
		c.oob = appendControl(c.oob, unix.IPPROTO_IP, unix.IP_PKTINFO, // ipi_ifindex, ipi_spec_dst, ipi_addr
			append([]byte{0, 0, 0, 0}, append(a[:], 0, 0, 0, 0)...))
	}
	return c
}

// appendControl appends one cmsghdr with its data and padding (cmsg(3)).
func appendControl(b []byte, level, typ int, data []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, unix.CmsgSpace(len(data)))...)
	h := b[at:]
	n := unix.CmsgLen(len(data))
	if cmsgLenBytes == 8 {
		binary.NativeEndian.PutUint64(h, uint64(n))
	} else {
		binary.NativeEndian.PutUint32(h, uint32(n))
	}
	binary.NativeEndian.PutUint32(h[cmsgLenBytes:], uint32(level))
	binary.NativeEndian.PutUint32(h[cmsgLenBytes+4:], uint32(typ))
	copy(h[unix.CmsgLen(0):], data)
	return b
}

// cmsgLenBytes is the width of cmsg_len, a size_t; it is followed by two ints, without padding.
const cmsgLenBytes = unix.SizeofCmsghdr - 8

// parseControl reads what recvmsg(2) tells beside the data: the size of the joined datagrams (0 where there is but one)
// and the address they were sent to. It allocates nothing and stops at whatever is malformed.
func parseControl(b []byte) (seg int, to netip.Addr) {
	for len(b) >= unix.SizeofCmsghdr {
		var n int
		if cmsgLenBytes == 8 {
			n = int(binary.NativeEndian.Uint64(b))
		} else {
			n = int(binary.NativeEndian.Uint32(b))
		}
		if n < unix.CmsgLen(0) || n > len(b) {
			return seg, to
		}
		level := int(int32(binary.NativeEndian.Uint32(b[cmsgLenBytes:])))
		typ := int(int32(binary.NativeEndian.Uint32(b[cmsgLenBytes+4:])))
		data := b[unix.CmsgLen(0):n]
		switch {
		case level == unix.IPPROTO_UDP && typ == unix.UDP_GRO && len(data) >= 4:
			seg = int(int32(binary.NativeEndian.Uint32(data)))
		case level == unix.IPPROTO_IP && typ == unix.IP_PKTINFO && len(data) >= 12:
			to = netip.AddrFrom4([4]byte(data[8:12])) // ipi_addr: the destination in the header
		case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_PKTINFO && len(data) >= 16:
			to = netip.AddrFrom16([16]byte(data[:16])).Unmap()
		}
		b = b[min(len(b), unix.CmsgSpace(n-unix.CmsgLen(0))):]
	}
	return seg, to
}
