package qemu

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serving runs `imgbuild serve` and returns its URL.
func serving(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command(path(t, "IMGBUILD_BIN", "../../bin/imgbuild", "make build"), "serve", "--listen", "127.0.0.1:0", dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("imgbuild serve: %v", err)
		}
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(url)
}

// A machine without a medium starts the installer over the network, by iPXE and HTTP,
// and installs. The disk has then what a raw disk has.
func TestNetboot(t *testing.T) {
	layout := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample")
	config := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(config, []byte("[customizations.installer.bootloader.grub2]\nmenu-timeout = 0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := built(t, layout, "--type", "pxe", "--config", config, "--iso-unattended", "--target-imgref", installTarget)
	// What the machine sees as 10.0.2.2 is this one.
	url := strings.Replace(serving(t, filepath.Join(dir, "pxe")), "127.0.0.1", "10.0.2.2", 1) + "boot.ipxe"
	disk := ""
	attempts(t, func(a *attempt) {
		disk = blank(t)
		begun := time.Now()
		d := a.start(disk, Options{Firmware: BIOS, Netboot: url, Memory: 2048})
		d.expect(`Installing to /dev/vda`)
		d.expect(`Installed to /dev/vda`)
		d.off()
		t.Logf("installed %v after switching on", time.Since(begun).Round(time.Second))
	})
	raw := filepath.Join(built(t, layout, "--type", "raw", "--target-imgref", installTarget, "--size", fmt.Sprintf("%d", diskSize)), "image/disk.raw")
	equalFiles(t, disk, raw)
}
