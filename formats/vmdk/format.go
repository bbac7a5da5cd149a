package vmdk

import (
	"encoding/binary"
	"fmt"
	"strings"

	"imgbuild/partition"
)

const (
	sectorSize = 512

	grainSectors = 128 // the default of all programs
	grainSize    = grainSectors * sectorSize
	// tableGrains is the number of grains that one grain table maps: 32 MiB of the
	// disk. Other numbers are not read by everything.
	tableGrains = 512
)

// Layout of the file up to the first grain, in sectors.
const (
	descriptorAt      = 1
	descriptorSectors = 20
	// overhead is everything ahead of the first grain: a whole grain, as VMware
	// and QEMU have it.
	overhead = grainSectors
)

const (
	sizeHeader = 512
	sizeMarker = 512
	// sizeGrainMarker is what a grain has ahead of its compressed bytes.
	sizeGrainMarker = 12
)

// headerFlags are the flags of the header.
type headerFlags uint32

const (
	flagNewlineTest headerFlags = 1 << 0
	flagCompressed  headerFlags = 1 << 16
	flagMarkers     headerFlags = 1 << 17
)

// directoryAtEnd is the offset of the grain directory in the header of a stream:
// the footer has it.
const directoryAtEnd = 0xffffffffffffffff

const compressionDeflate = 1

// header is the sparse extent header, which is also the footer. It is little
// endian like everything in the format. Offsets are sectors of the file.
type header struct {
	Capacity    int64  // of the disk in sectors: whole grains
	DirectoryAt uint64 // offset of the grain directory
}

func (h *header) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, sizeHeader)
	copy(b, sparseMagic)
	// Version 3 came with stream-optimized disks for ESX, and is what VMware,
	// VirtualBox and QEMU write. Nothing else differs from version 1.
	le.PutUint32(b[0x04:], 3)
	le.PutUint32(b[0x08:], uint32(flagNewlineTest|flagCompressed|flagMarkers))
	le.PutUint64(b[0x0c:], uint64(h.Capacity))
	le.PutUint64(b[0x14:], grainSectors)
	le.PutUint64(b[0x1c:], descriptorAt)
	le.PutUint64(b[0x24:], descriptorSectors)
	le.PutUint32(b[0x2c:], tableGrains)
	// 0x30 to 0x37: no redundant grain directory.
	le.PutUint64(b[0x38:], h.DirectoryAt)
	le.PutUint64(b[0x40:], overhead)
	// 0x48: no unclean shutdown. Then what a transfer as text would change.
	copy(b[0x49:], "\n \r\n")
	le.PutUint16(b[0x4d:], compressionDeflate)
	return b
}

// markerType is what follows a marker.
type markerType uint32

const (
	markerEnd       markerType = 0
	markerTable     markerType = 1
	markerDirectory markerType = 2
	markerFooter    markerType = 3
)

// marker returns the marker of n sectors of metadata.
func marker(t markerType, n int) []byte {
	b := make([]byte, sizeMarker)
	binary.LittleEndian.PutUint64(b[0:], uint64(n))
	// 8 to 11: the size, which only grains have.
	binary.LittleEndian.PutUint32(b[12:], uint32(t))
	return b
}

// putGrainMarker writes the marker of a grain with n compressed bytes.
func putGrainMarker(b []byte, grain int64, n int) {
	binary.LittleEndian.PutUint64(b[0:], uint64(grain*grainSectors))
	binary.LittleEndian.PutUint32(b[8:], uint32(n))
}

// Adapter is the controller that the disk is made for.
type Adapter int

const (
	LSILogic Adapter = iota // any SCSI controller
	IDE                     // IDE or SATA
	BusLogic
)

func (a Adapter) String() string {
	switch a {
	case LSILogic:
		return "lsilogic"
	case IDE:
		return "ide"
	case BusLogic:
		return "buslogic"
	}
	return fmt.Sprintf("adapter %d", int(a))
}

// geometry returns cylinders, heads and sectors of a disk, as VMware and QEMU
// choose them.
func (a Adapter) geometry(capacity int64) (c, h, s int64) {
	h, s, most := int64(255), int64(63), int64(65535)
	if a == IDE {
		h, most = 16, 16383
	}
	return min(capacity/(h*s), most), h, s
}

// descriptor returns the embedded descriptor of a disk of capacity sectors.
func descriptor(capacity int64, adapter Adapter, id partition.GUID) []byte {
	content := partition.DeriveGUID(id[:], "content")
	cid := binary.BigEndian.Uint32(content[12:])
	if cid >= 0xfffffffe { // no parent, and no identifier
		cid = 0xfffffffd
	}
	c, h, s := adapter.geometry(capacity)
	text := new(strings.Builder)
	fmt.Fprintf(text, `# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=%08x
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RW %d SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "%v"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "%d"
ddb.geometry.sectors = "%d"
ddb.longContentID = "%x%08x"
ddb.toolsInstallType = "4"
ddb.toolsVersion = "%d"
ddb.virtualHWVersion = "%d"
`, cid, capacity, adapter, c, h, s, content[:12], cid, unmanagedTools, oldestHardware)
	b := make([]byte, descriptorSectors*sectorSize)
	copy(b, text.String())
	return b
}

const (
	// unmanagedTools is the version of tools that come with the system.
	unmanagedTools = 2147483647
	// oldestHardware is the virtual hardware that the disk needs: any.
	oldestHardware = 4
)
