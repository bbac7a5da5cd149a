package blueprints

// Size is a number of bytes, written as an integer or as text with a unit.
type Size int64

// Filesystem is the least size of a file system of its own.
type Filesystem struct {
	Mountpoint string `key:"mountpoint,required"`
	MinSize    Size   `key:"minsize"`
	Size       Size   `key:"size"` // the old name of minsize; 0 once read
}

// Disk is the partitioning of the disk.
type Disk struct {
	Type        string      `key:"type" enum:"gpt dos"` // "" is the default
	MinSize     Size        `key:"minsize"`
	StartOffset Size        `key:"start_offset"`
	SectorSize  int64       `key:"sector_size"` // bytes; 0 is 512
	Partitions  []Partition `key:"partitions"`
}

// Kinds of a partition.
const (
	PartitionPlain = "plain" // a file system, swap space or nothing
	PartitionLVM   = "lvm"   // a volume group
	PartitionBtrfs = "btrfs" // a btrfs with subvolumes
)

// Partition is a partition of the disk. Which keys beyond the first group it may
// have depends on its type.
type Partition struct {
	Type      string `key:"type" enum:"plain lvm btrfs"` // never "" once read
	MinSize   Size   `key:"minsize,required"`
	PartType  string `key:"part_type"`  // GUID, or two hex digits on dos; "" chooses
	PartLabel string `key:"part_label"` // GPT only
	PartUUID  string `key:"part_uuid"`  // GPT only

	// PartitionPlain.
	Mountpoint string `key:"mountpoint"`
	Label      string `key:"label"`
	FSType     string `key:"fs_type" enum:"ext4 vfat xfs swap none"`

	// PartitionLVM.
	Name           string          `key:"name"`
	LogicalVolumes []LogicalVolume `key:"logical_volumes"`

	// PartitionBtrfs.
	Subvolumes []Subvolume `key:"subvolumes"`
}

// LogicalVolume is a logical volume of a volume group.
type LogicalVolume struct {
	Name       string `key:"name"`
	MinSize    Size   `key:"minsize,required"`
	Mountpoint string `key:"mountpoint"`
	Label      string `key:"label"`
	FSType     string `key:"fs_type" enum:"ext4 vfat xfs swap"`
}

// Subvolume is a subvolume of a btrfs.
type Subvolume struct {
	Name       string `key:"name,required"`
	Mountpoint string `key:"mountpoint,required"`
}
