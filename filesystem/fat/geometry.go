package fat

// Limits of FAT32.
const (
	// minClusters is the count below which a volume is FAT16, whatever else it
	// says: the specification's only criterion.
	minClusters = 65525
	// maxClusters leaves the cluster numbers from 0x0FFFFFF7 to their meanings.
	maxClusters = 0x0FFFFFF7 - rootCluster
	// maxSectors is the room of BPB_TotSec32.
	maxSectors = 1<<32 - 1
	// maxClusterSize is what the specification and old firmware stop at.
	maxClusterSize = 32 << 10
)

// clusterClass says that volumes of at most sectors sectors have clusters of
// perCluster sectors.
type clusterClass struct{ sectors, perCluster int64 }

// clusterClasses are those of mkfs.fat -F 32 and Microsoft's format: 260 MiB,
// 8, 16 and 32 GiB of 512-byte sectors; with 4096-byte sectors eight times as
// much.
var clusterClasses = [...]clusterClass{
	{260 << 11, 1},
	{8 << 21, 8},
	{16 << 21, 16},
	{32 << 21, 32},
	{maxSectors, 64},
}

// clusterSizes returns the cluster sizes, in sectors, that suit a volume of so
// many sectors: first the one that mkfs.fat would take, then smaller ones.
func clusterSizes(sectors, sectorSize int64) []int64 {
	var sizes []int64
	for i := len(clusterClasses) - 1; i >= 0; i-- {
		fits := i == 0 || sectors > clusterClasses[i-1].sectors
		if c := clusterClasses[i].perCluster; fits && c*sectorSize <= maxClusterSize {
			sizes = append(sizes, c)
		}
	}
	return sizes
}

// geometry is where things are.
type geometry struct {
	sectorSize  int64 // bytes
	perCluster  int64 // sectors
	sectors     int64 // of the volume
	reserved    int64 // sectors in front of the FATs
	fatSectors  int64 // of one FAT
	rootSectors int64 // of the root directory behind the FATs, on FAT16
	clusters    int64 // of the data area; the first is number 2
}

// fit returns the geometry of a volume of at most so many sectors that has the
// most clusters.
func fit(sectors, perCluster, sectorSize int64) geometry {
	sectors = min(sectors, smallest(maxClusters, perCluster, sectorSize).sectors)
	// FATs of f sectors leave clustersWith(f) clusters and have room for
	// describedBy(f); the most that both allow is where the two cross. Without
	// rounding, that is at
	//   f*perSector = (sectors-reserved-2f)/perCluster + 2
	clustersWith := func(f int64) int64 { return (sectors - reservedSectors - fatCount*f) / perCluster }
	describedBy := func(f int64) int64 { return f*(sectorSize/sizeFATEntry) - rootCluster }
	f := (sectors - reservedSectors + rootCluster*perCluster) / (sectorSize/sizeFATEntry*perCluster + fatCount)
	f = alignFAT(max(f, 1), perCluster)
	for describedBy(f) < clustersWith(f) {
		f += alignStep(perCluster)
	}
	clusters := clustersWith(f)
	if less := f - alignStep(perCluster); describedBy(less) > clusters {
		// The last sector of the FATs costs more clusters than it adds; some
		// sectors at the end stay unused without it.
		f, clusters = less, describedBy(less)
	}
	return newGeometry(f, clusters, perCluster, sectorSize)
}

// smallest returns the geometry of the smallest volume with so many clusters.
func smallest(clusters, perCluster, sectorSize int64) geometry {
	perSector := sectorSize / sizeFATEntry
	f := (clusters + rootCluster + perSector - 1) / perSector
	return newGeometry(alignFAT(f, perCluster), clusters, perCluster, sectorSize)
}

func newGeometry(fatSectors, clusters, perCluster, sectorSize int64) geometry {
	g := geometry{
		sectorSize: sectorSize,
		perCluster: perCluster,
		reserved:   reservedSectors,
		fatSectors: fatSectors,
		clusters:   clusters,
	}
	g.sectors = g.dataStart() + clusters*perCluster
	return g
}

// alignStep is the step in sectors between the FAT sizes that have the data area
// start at a multiple of the cluster size: then clusters are aligned on disk.
func alignStep(perCluster int64) int64 { return max(perCluster/fatCount, 1) }

// alignFAT returns the first aligned FAT size that is not below n.
func alignFAT(n, perCluster int64) int64 {
	for (reservedSectors+fatCount*n)%perCluster != 0 {
		n++
	}
	return n
}

// dataStart returns the first sector of the data area.
func (g geometry) dataStart() int64 { return g.rootStart() + g.rootSectors }

// rootStart returns the sector behind the FATs.
func (g geometry) rootStart() int64 { return g.reserved + fatCount*g.fatSectors }

// clusterSize returns the size of a cluster in bytes.
func (g geometry) clusterSize() int64 { return g.perCluster * g.sectorSize }

// fatOffset returns the offset in bytes of FAT i, from 0.
func (g geometry) fatOffset(i int64) int64 {
	return (g.reserved + i*g.fatSectors) * g.sectorSize
}

// offset returns the offset of a cluster in bytes.
func (g geometry) offset(cluster uint32) int64 {
	return g.dataStart()*g.sectorSize + int64(cluster-rootCluster)*g.clusterSize()
}
