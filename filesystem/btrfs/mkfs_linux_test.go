package btrfs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// mkfs makes a file system of a directory with mkfs.btrfs and returns its path.
func mkfs(t *testing.T, dir string, size int64, opt Options) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "mkfs")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	args := []string{"-q", "--rootdir", dir, "-U", fstest.UUIDString(opt.UUID), "-L", opt.Label, "-O", "^block-group-tree"}
	if opt.BlockGroupTree {
		args[len(args)-1] = "block-group-tree"
	}
	if opt.SingleMetadata {
		args = append(args, "-m", "single")
	}
	switch opt.Checksum {
	case XXHash64:
		args = append(args, "--csum", "xxhash64")
	case SHA256:
		args = append(args, "--csum", "sha256")
	}
	if out, complaint, err := fstest.Tool(t, nil, "mkfs.btrfs", append(args, name)...); err != nil {
		t.Fatalf("mkfs.btrfs: %v\n%s%s", err, out, complaint)
	}
	return name
}

// TestMkfs compares file systems with those of mkfs.btrfs --rootdir: which items
// there are, of which size, and what they say. Content of 2 to 4 KiB is left out:
// mkfs.btrfs has it inline, and Linux does not.
func TestMkfs(t *testing.T) {
	root := fstest.DirOf("empty", tree.NewDir(0o750), "file", text(2000), "large", noise(3*mib), "link", tree.NewLink("file"),
		"fifo", &tree.Inode{Mode: tree.TypeFIFO | 0o640}, "nothing", fstest.File(""), "small", text(700))
	one := text(5000)
	for i := range 300 {
		if err := tree.Put(root, fmt.Sprintf("d/%d/%s", i%7, strings.Repeat("n", i%90)+strconv.Itoa(i)), one); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		if err := tree.Put(root, fmt.Sprintf("many/file-%d", i), text(i*10+(i&1)*5000)); err != nil {
			t.Fatal(err)
		}
	}
	root.SetXattr("user.a", "value")
	root.Child("file").SetXattr("user.long", strings.Repeat("v", 3000))
	dir := t.TempDir()
	store(t, root, dir)
	for name, set := range map[string]func(*Options){
		"default": func(o *Options) { o.Label = "a label" },
		"single":  func(o *Options) { o.SingleMetadata, o.Checksum = true, XXHash64 },
		"groups":  func(o *Options) { o.BlockGroupTree, o.Checksum = true, SHA256 },
	} {
		t.Run(name, func(t *testing.T) {
			opt := testOptions()
			set(&opt)
			ours, theirs := writeImage(t, root, gib, opt), mkfs(t, dir, gib, opt)
			for what, shape := range map[string]func(*testing.T, string) []string{"superblock": superShape, "trees": treeShape} {
				a, b := shape(t, ours), shape(t, theirs)
				if len(a) < 20 {
					t.Fatalf("%s: %d lines are no shape", what, len(a))
				}
				for _, line := range a {
					if !slices.Contains(b, line) {
						t.Errorf("%s: only ours has %s", what, line)
					}
				}
				for _, line := range b {
					if !slices.Contains(a, line) {
						t.Errorf("%s: ours lacks %s", what, line)
					}
				}
			}
		})
	}
}

// store writes a tree to a directory of the host, but for owners and times.
func store(t *testing.T, root *tree.Inode, dir string) {
	t.Helper()
	names := map[*tree.Inode]string{}
	err := tree.Walk(root, func(p string, i *tree.Inode) error {
		name := filepath.Join(dir, p)
		i.UID, i.GID = uint32(os.Getuid()), uint32(os.Getgid())
		if first, ok := names[i]; ok {
			return os.Link(first, name)
		}
		names[i] = name
		var err error
		switch i.Type() {
		case tree.TypeDir:
			if p != "/" {
				err = os.Mkdir(name, 0o755)
			}
		case tree.TypeLink:
			return os.Symlink(i.Target, name)
		case tree.TypeFIFO:
			err = mkfifo(name)
		default:
			b, rerr := i.Content.ReadAll(64 * mib)
			if rerr != nil {
				return rerr
			}
			err = os.WriteFile(name, b, 0o644)
		}
		if err != nil {
			return err
		}
		for _, x := range i.Xattrs {
			if err := setxattr(name, x.Name, x.Value); err != nil {
				return fmt.Errorf("%s: %s: %w", name, x.Name, err)
			}
		}
		return os.Chmod(name, os.FileMode(i.Perm()))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// superShape returns the fields of the superblock that do not depend on places.
func superShape(t *testing.T, image string) (shape []string) {
	out, complaint, err := fstest.Tool(t, nil, "btrfs", "inspect-internal", "dump-super", image)
	if err != nil {
		t.Fatalf("%v\n%s", err, complaint)
	}
	own := regexp.MustCompile(`^(superblock: .*|csum|generation|root|chunk_root|chunk_root_generation|uuid_tree_generation|bytes_used|dev_item.uuid|dev_item.bytes_used|dev_item.generation|root_level)\t`)
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); !own.MatchString(line + "\t") {
			shape = append(shape, line)
		}
	}
	return shape
}

var (
	itemLine = regexp.MustCompile(`^\titem \d+ key \((\S+) (\S+) (\S+)\) itemoff \d+ itemsize (\d+)`)
	treeLine = regexp.MustCompile(`^(\S.*?) tree(?: key|$)`)
	nameLine = regexp.MustCompile(`name: (.*)$`)
	toLine   = regexp.MustCompile(`location key \((\d+) INODE_ITEM 0\)`)
	modeLine = regexp.MustCompile(`(size \d+ nbytes \d+)|(mode \d+ links \d+ uid \d+ gid \d+)`)
	dataLine = regexp.MustCompile(`extent data disk byte \d+ nr (\d+)`)
)

// item is an item as dump-tree prints it.
type item struct {
	tree, object, typ, offset string
	size                      int
	lines                     []string
}

// treeShape returns a line for every item of the trees that mkfs.btrfs and the
// writer have to agree in. Inodes are called by their paths: numbers follow the
// order in which a directory is read.
func treeShape(t *testing.T, image string) (shape []string) {
	out, complaint, err := fstest.Tool(t, nil, "btrfs", "inspect-internal", "dump-tree", image)
	if err != nil {
		t.Fatalf("%v\n%s", err, complaint)
	}
	var items []*item
	name := ""
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if m := treeLine.FindStringSubmatch(line); m != nil {
			name = m[1]
		} else if m := itemLine.FindStringSubmatch(line); m != nil {
			size, _ := strconv.Atoi(m[4])
			items = append(items, &item{tree: name, object: m[1], typ: m[2], offset: m[3], size: size})
		} else if len(items) > 0 && strings.HasPrefix(line, "\t\t") {
			last := items[len(items)-1]
			last.lines = append(last.lines, strings.TrimSpace(line))
		}
	}
	paths := map[string]string{"256": ""}
	for again := true; again; {
		again = false
		for _, i := range items {
			if i.tree != "fs" || i.typ != "DIR_INDEX" || paths[i.object] == "" && i.object != "256" {
				continue
			}
			text := strings.Join(i.lines, "\n")
			to, own := toLine.FindStringSubmatch(text), nameLine.FindStringSubmatch(text)
			if p := paths[i.object] + "/" + own[1]; paths[to[1]] == "" || p < paths[to[1]] {
				paths[to[1]], again = p, true
			}
		}
	}
	data := map[string]int{}
	for _, i := range items {
		text := strings.Join(i.lines, "\n")
		switch i.tree {
		case "fs":
			switch i.typ {
			case "INODE_ITEM":
				line := strings.Join(modeLine.FindAllString(text, -1), " ")
				if strings.Contains(line, "mode 120777") { // they count a NUL, which Linux does not write
					line = regexp.MustCompile(`nbytes \d+`).ReplaceAllString(line, "")
				}
				shape = append(shape, paths[i.object]+" INODE_ITEM "+line)
			case "EXTENT_DATA":
				if m := dataLine.FindStringSubmatch(text); m != nil { // they have an extent for the last sector
					n, _ := strconv.Atoi(m[1])
					data[paths[i.object]] += n
				} else if !strings.HasSuffix(paths[i.object], "link") {
					shape = append(shape, fmt.Sprint(paths[i.object], " inline ", i.size))
				}
			case "DIR_INDEX":
				shape = append(shape, fmt.Sprint(paths[i.object], " DIR_INDEX ", i.size, nameLine.FindStringSubmatch(text)))
			case "INODE_REF":
				shape = append(shape, fmt.Sprint(paths[i.object], " INODE_REF ", paths[i.offset], " ", i.size))
			default:
				shape = append(shape, fmt.Sprint(paths[i.object], " ", i.typ, " ", i.offset, " ", i.size))
			}
		case "root", "data reloc":
			shape = append(shape, fmt.Sprint(i.tree, " ", i.object, " ", i.typ, " ", i.size))
		case "uuid":
			shape = append(shape, fmt.Sprint(i.tree, " ", i.typ, " ", i.size))
		case "device", "free space", "block group", "extent", "checksum": // places
			if i.typ != "FREE_SPACE_EXTENT" {
				shape = append(shape, fmt.Sprint(i.tree, " ", i.typ))
			}
		case "chunk":
			shape = append(shape, fmt.Sprint("chunk ", i.typ, " ", i.size, regexp.MustCompile(`type \S+`).FindString(text)))
		}
	}
	for p, n := range data {
		shape = append(shape, fmt.Sprint(p, " data ", n))
	}
	slices.Sort(shape)
	return shape
}
