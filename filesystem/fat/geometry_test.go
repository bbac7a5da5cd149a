package fat

import "testing"

// TestFit compares with a search through all FAT sizes.
func TestFit(t *testing.T) {
	for _, sectorSize := range []int64{512, 4096} {
		perSector := sectorSize / sizeFATEntry
		for _, perCluster := range []int64{1, 8, 16, 32, 64} {
			// Three sectors of FAT, of every alignment.
			for sectors := int64(70000); sectors < 70000+4*perSector; sectors++ {
				best := int64(0)
				for f := int64(1); f < 70000/perSector+10; f++ {
					if (reservedSectors+2*f)%perCluster == 0 {
						best = max(best, min((sectors-reservedSectors-2*f)/perCluster, f*perSector-rootCluster))
					}
				}
				g := fit(sectors, perCluster, sectorSize)
				if g.clusters != best || g.sectors > sectors || g.fatSectors*perSector < g.clusters+rootCluster ||
					g.dataStart()%perCluster != 0 || g.sectors != g.dataStart()+g.clusters*perCluster {
					t.Fatalf("%d sectors: %+v, best is %d clusters", sectors, g, best)
				}
				if s := smallest(g.clusters, perCluster, sectorSize); s.sectors > sectors || fit(s.sectors, perCluster, sectorSize).clusters != g.clusters ||
					fit(s.sectors-1, perCluster, sectorSize).clusters >= g.clusters {
					t.Fatalf("%d clusters: smallest %+v", g.clusters, s)
				}
			}
		}
	}
}

// TestLargeVolumes stays within the limits of the format.
func TestLargeVolumes(t *testing.T) {
	for _, sectorSize := range []int64{512, 4096} {
		for _, c := range clusterSizes(maxSectors, sectorSize) {
			g := fit(maxSectors, c, sectorSize)
			if g.clusters > maxClusters || g.clusters < minClusters {
				t.Errorf("sector size %d, %d sectors a cluster: %d clusters", sectorSize, c, g.clusters)
			}
			if g.clusterSize() > maxClusterSize {
				t.Errorf("sector size %d: clusters of %d bytes", sectorSize, g.clusterSize())
			}
		}
	}
}
