package installer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"imgbuild/blockdev"
	"imgbuild/fault"
	"imgbuild/installer/medium"
	"imgbuild/installer/settings"
	"imgbuild/kickstart"
	"imgbuild/kmod"
)

// IsInit tells whether this process is the first one of an installer's initramfs.
func IsInit() bool { return os.Getpid() == 1 && filepath.Base(os.Args[0]) == "init" }

// Files of the initramfs.
const (
	indexFile  = "/imgbuild/modules.json"
	digestFile = "/imgbuild/medium" // SHA-256 of the description, in hex
)

// Main runs the installer as the first process. It does not return.
func Main() {
	ctx := context.Background()
	end := End(kickstart.EndPowerOff)
	c := &consoles{}
	err := run(ctx, &c, &end)
	if err != nil {
		fmt.Fprintf(c, "\nThe installer cannot go on: %s\n", printable(err.Error()))
		// The kernel would panic, and take away what can be read here.
		time.Sleep(time.Hour)
	}
	unix.Sync()
	how := map[End]int{
		kickstart.EndReboot: unix.LINUX_REBOOT_CMD_RESTART, kickstart.EndHalt: unix.LINUX_REBOOT_CMD_HALT,
	}
	cmd, ok := how[end]
	if !ok {
		cmd = unix.LINUX_REBOOT_CMD_POWER_OFF
	}
	fmt.Fprintf(c, "\n")
	_ = unix.Reboot(cmd)
	for {
		time.Sleep(time.Hour)
	}
}

// run sets the machine up, finds the medium and installs.
func run(ctx context.Context, c **consoles, end *End) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v\n%s", r, debug.Stack())
		}
	}()
	if err := mountSystem(); err != nil {
		*c = openConsoles()
		return err
	}
	limitMemory()
	*c = openConsoles()
	fmt.Fprintf(*c, "\nStarting the installer ...\n")
	m := &machine{console: *c, host: blockdev.Host{}}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	args := Arguments(string(cmdline))
	in := &Installer{Machine: m, Clock: clock()}
	if err := m.prepare(ctx, in, args); err != nil {
		in.Description = orEmpty(in.Description)
		in.log = &log{}
		in.console = &teed{*c, in.log}
		*end, err = in.lost(ctx, err)
		return err
	}
	*end, err = in.Run(ctx, *c)
	if in.done {
		m.release()
	}
	return err
}

func orEmpty(d *medium.Description) *medium.Description {
	if d == nil {
		return &medium.Description{}
	}
	return d
}

// lost says why there is nothing to install.
func (in *Installer) lost(ctx context.Context, err error) (End, error) {
	in.say("\nThe installer cannot start: %v\n", err)
	if hint := fault.HintOf(err); hint != "" {
		in.say("hint: %s\n", hint)
	}
	return in.askEnd(ctx, "")
}

// clock returns a clock that starts now.
func clock() func() float64 {
	start := time.Now()
	return func() float64 { return time.Since(start).Seconds() }
}

// mountSystem mounts what every program of Linux expects.
func mountSystem() error {
	for _, m := range []struct{ kind, at, options string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", "mode=0755"}, {"tmpfs", "/run", "mode=0755,size=16m"},
		// Nothing of it is used before it is needed; what is not there is swapped
		// nowhere, so that it has to end before the memory does.
		{"tmpfs", "/tmp", "mode=1777,size=85%"},
	} {
		if m.at == "/run" {
			if _, err := os.Stat(medium.Mount + "/" + medium.Path); err == nil {
				continue // the medium came in the initramfs
			}
		}
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID, m.options); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if err := os.MkdirAll("/dev/pts", 0o755); err == nil {
		_ = unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "")
	}
	for name, value := range map[string]string{"PATH": "/usr/bin:/usr/sbin:/bin:/sbin", "HOME": "/root", "TERM": "linux", "TMPDIR": "/tmp"} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	_ = os.WriteFile("/proc/sys/kernel/printk", []byte("3\n"), 0) // no messages between the questions
	return nil
}

// limitMemory has the garbage collected early on small machines.
func limitMemory() {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		debug.SetMemoryLimit(int64(info.Totalram) * int64(info.Unit) / 3)
	}
}

// machine is the machine that the installer runs on.
type machine struct {
	console *consoles
	host    blockdev.Host
	modules *loader
	device  string        // the medium's, by the kernel's name; "" for the initramfs
	disk    string        // that the device is on
	quiet   time.Duration // without a new device, after which all are there
}

// prepare loads modules until the medium is there, and reads what is on it.
func (m *machine) prepare(ctx context.Context, in *Installer, args map[string]string) error {
	if err := m.loadIndex(); err != nil {
		return err
	}
	begun := time.Now()
	m.modules.always(ctx)
	if err := m.findMedium(ctx); err != nil {
		return err
	}
	// Where the medium took long, disks do so as well.
	m.quiet = min(max(quietTime, time.Since(begun)/4), settleTime/2)
	m.settle(ctx)
	if _, err := os.Stat("/sys/firmware/efi/efivars"); err == nil {
		if err := unix.Mount("efivarfs", "/sys/firmware/efi/efivars", "efivarfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			fmt.Fprintf(m.console, "warning: the firmware's variables cannot be reached: %v\n", err)
		}
	}
	d, err := readMedium(medium.Mount)
	if err != nil {
		return err
	}
	in.Description = d
	s, err := readSettings(medium.Mount)
	if err != nil {
		return err
	}
	in.Orders, err = NewOrders(args, s, d)
	return err
}

// loadIndex reads the index of the modules.
func (m *machine) loadIndex() error {
	text, err := os.ReadFile(indexFile)
	if err != nil {
		return err
	}
	x, err := kmod.ParseIndex(text)
	if err != nil {
		return err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	dir := "/lib/modules/" + unix.ByteSliceToString(u.Release[:])
	m.modules = newLoader(x, "/sys", func(e *kmod.Entry) error { return loadModule(filepath.Join(dir, e.Path)) },
		func(text string) { fmt.Fprintf(m.console, "warning: %s\n", printable(text)) })
	return nil
}

// loadModule loads a module from a file. A module whose device is not there, or that
// is there already, is no failure.
func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return nil
	}
	return err
}

// Times of waiting for devices. USB sticks take up to ten seconds to be there.
const (
	mediumTime = 90 * time.Second // after the last new device: to load modules takes its time
	pollTime   = 200 * time.Millisecond
	quietTime  = 2 * time.Second
	settleTime = 20 * time.Second
)

// findMedium loads modules until the medium appears, and mounts it.
func (m *machine) findMedium(ctx context.Context) error {
	digest, err := os.ReadFile(digestFile)
	if err != nil {
		return err
	}
	want := strings.TrimSpace(string(digest))
	if check(medium.Mount, want) == nil {
		return nil
	}
	if err := os.MkdirAll(medium.Mount, 0o755); err != nil {
		return err
	}
	if check(medium.InMemory, want) == nil {
		return unix.Mount(medium.InMemory, medium.Mount, "", unix.MS_BIND, "")
	}
	var others []string
	end := time.Now().Add(mediumTime)
	tried := map[string]bool{}
	for time.Now().Before(end) {
		if m.modules.coldplug(ctx) > 0 {
			end = time.Now().Add(mediumTime)
		}
		for _, name := range mediumCandidates() {
			if tried[name] {
				continue
			}
			why := m.tryMedium(name, want)
			if why == nil {
				return nil
			}
			if errors.Is(why, errOther) {
				others = append(others, name)
			}
			if !errors.Is(why, unix.ENOMEDIUM) {
				tried[name] = true
			}
		}
		time.Sleep(pollTime)
	}
	hint := "plug it in once more, or write it to another stick, and start again"
	if len(others) > 0 {
		hint = fmt.Sprintf("another installation medium is in %s; take out all but one", strings.Join(others, ", "))
	}
	return fault.New(fault.Device, errors.New("the medium that this was started from cannot be found among the disks and drives of the machine"), hint)
}

// errOther says that a medium is not the one that was started from.
var errOther = errors.New("another medium")

// mediumCandidates lists the devices that begin as ISO 9660 volumes do: partitions
// before the disks they are on, which would be held as a whole.
func mediumCandidates() (names []string) {
	entries, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return nil
	}
	var disks []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram") || strings.HasPrefix(name, "zram") || !isVolume("/dev/"+name) {
			continue
		}
		if _, err := os.Stat("/sys/class/block/" + name + "/partition"); err == nil {
			names = append(names, name)
		} else {
			disks = append(disks, name)
		}
	}
	return append(names, disks...)
}

// isVolume tells whether a device has the descriptor of an ISO 9660 volume.
func isVolume(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var b [6]byte
	_, err = f.ReadAt(b[:], descriptorAt)
	return err == nil && string(b[1:]) == "CD001"
}

// tryMedium mounts a device and keeps it when it is the medium.
func (m *machine) tryMedium(name, want string) error {
	if err := unix.Mount("/dev/"+name, medium.Mount, "iso9660", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return err
	}
	if err := check(medium.Mount, want); err != nil {
		_ = unix.Unmount(medium.Mount, 0)
		return err
	}
	m.device, m.disk = name, name
	if real, err := filepath.EvalSymlinks("/sys/class/block/" + name); err == nil {
		if _, err := os.Stat(filepath.Join(real, "partition")); err == nil {
			m.disk = filepath.Base(filepath.Dir(real))
		}
	}
	return nil
}

// check tells whether the medium at a directory is the one that the initramfs is of.
func check(dir, want string) error {
	f, err := os.Open(dir + "/" + medium.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, medium.MaxSize+1)); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != want {
		return errOther
	}
	return nil
}

// settle waits for the disks that come slowly.
func (m *machine) settle(ctx context.Context) {
	quiet := time.Now()
	for end := time.Now().Add(settleTime); time.Now().Before(end) && time.Since(quiet) < m.quiet; time.Sleep(pollTime) {
		if m.modules.coldplug(ctx) > 0 {
			quiet = time.Now()
		}
	}
}

// readMedium reads the description.
func readMedium(dir string) (*medium.Description, error) {
	text, err := readUpTo(dir+"/"+medium.Path, medium.MaxSize)
	if err != nil {
		return nil, err
	}
	return medium.Decode(text)
}

// readSettings reads the settings on a medium, which may have none.
func readSettings(dir string) (*settings.Settings, error) {
	text, err := readUpTo(dir+"/"+settings.Path, 16<<20)
	if errors.Is(err, os.ErrNotExist) {
		return &settings.Settings{}, nil
	}
	if err != nil {
		return nil, err
	}
	return settings.Decode(text)
}

func readUpTo(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, err
}

// Of linux/cdrom.h.
const (
	cdromEject    = 0x5309
	cdromLockDoor = 0x5329
)

// release lets go of the medium. A disc is ejected: many machines would start from it
// once more.
func (m *machine) release() {
	if m.device == "" {
		return
	}
	if unix.Unmount(medium.Mount, 0) != nil {
		_ = unix.Unmount(medium.Mount, unix.MNT_DETACH)
	}
	if !strings.HasPrefix(m.device, "sr") {
		return
	}
	fd, err := unix.Open("/dev/"+m.device, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.IoctlSetInt(fd, cdromLockDoor, 0)
	_ = unix.IoctlSetInt(fd, cdromEject, 0)
}

// sortedDisks brings disks into the order in which people count them.
func sortedDisks(list []blockdev.Disk) []blockdev.Disk {
	slices.SortStableFunc(list, func(a, b blockdev.Disk) int { return strings.Compare(a.Path, b.Path) })
	return list
}
