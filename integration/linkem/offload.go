//go:build linux

package linkem

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Hosts hand packets of one flow to a network card, and take them from it, in one piece of up to 64 KiB (TSO, UDP segmentation offload and what undoes them on the other side). A link
// that does so passes these pieces on as they are: to cut them up and to carry each packet by itself takes many times as much of processors that are to do something else. Each piece has
// a struct virtio_net_hdr in front (linux/virtio_net.h), of integers of this machine:
//
//	0  flags            1
//	1  type             1  none, TCP over IPv4 or IPv6, UDP; the highest bit is ECN
//	2  length of headers, a hint  2
//	4  bytes of data in each packet but the last  2
//	6  begin of what is summed: the header of TCP or UDP  2
//	8  place of the sum in that  2
const vnetHeader = 10

const (
	pieceECN = 0x80 // VIRTIO_NET_HDR_GSO_ECN
	pieceUDP = 5    // VIRTIO_NET_HDR_GSO_UDP_L4
)

// takeJoined has the kernel hand pieces to a device as they are.
func takeJoined(fd int) error {
	const tcp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil {
		return nil
	}
	return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp) // Linux before 6.2
}

// onWire returns how many packets a piece is, and how long they are in bytes, headers of IP included.
func onWire(piece []byte) (packets, bytes int) {
	if len(piece) < vnetHeader {
		return 0, 0
	}
	head, data := piece[:vnetHeader], piece[vnetHeader:]
	each := int(binary.NativeEndian.Uint16(head[4:]))
	kind := head[1] &^ pieceECN
	if kind == 0 || each == 0 {
		return 1, len(data)
	}
	headers := int(binary.NativeEndian.Uint16(head[6:])) + 8
	if kind != pieceUDP {
		at := headers - 8 + 12 // the data offset of TCP (RFC 9293, 3.1)
		if at >= len(data) {
			return 1, len(data)
		}
		headers += int(data[at]>>4)*4 - 8
	}
	packets = max((len(data)-headers+each-1)/each, 1)
	return packets, len(data) + (packets-1)*headers
}
