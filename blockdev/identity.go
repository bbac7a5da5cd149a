package blockdev

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// identity is what a disk says of itself.
type identity struct {
	transport     Transport
	vendor, model string
	serial        string
	ata           bool     // behind whatever bus, as ATA disks of SAS controllers are
	wwid          string   // of NVMe, as sysfs has it
	namespace     string   // of NVMe
	naa           string   // hexadecimal, from page 0x83
	scsi          []string // further identifiers with scsi_id's leading digit
}

// identify reads the identity of a disk.
func (h Host) identify(name, real string, t Transport) identity {
	dir := filepath.Join(real, "device")
	id := identity{transport: t, vendor: readLine(filepath.Join(dir, "vendor")), model: readLine(filepath.Join(dir, "model"))}
	switch t {
	case NVMe:
		id.vendor = ""
		id.serial = readLine(filepath.Join(dir, "serial"))
		id.wwid = readLine(filepath.Join(real, "wwid"))
		id.namespace = readLine(filepath.Join(real, "nsid"))
	case Virtio:
		id.vendor, id.model = "", "virtio disk" // the vendor is a PCI number
		id.serial = readLine(filepath.Join(real, "serial"))
	case MMC:
		id.vendor, id.model = "", readLine(filepath.Join(dir, "name"))
		id.serial = strings.TrimPrefix(readLine(filepath.Join(dir, "serial")), "0x")
	case SATA, SCSI, ISCSI, USB:
		id.readPages(dir)
	}
	if t == USB {
		if s := usbSerial(real); s != "" {
			id.serial = s
		}
	}
	if id.serial == "" {
		id.serial = readLine(filepath.Join(dir, "serial"))
	}
	return id
}

// usbSerial looks for the serial number of the USB device that a disk is behind.
func usbSerial(real string) string {
	for dir := filepath.Dir(real); strings.Contains(dir, "/usb"); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "idVendor")); err == nil {
			return readLine(filepath.Join(dir, "serial"))
		}
	}
	return ""
}

// Of the designators of page 0x83, see SPC-4, 7.8.6.
const (
	designatorVendor = 0
	designatorT10    = 1
	designatorEUI64  = 2
	designatorNAA    = 3

	codesetBinary = 1
)

// readPages reads the vital product data that the kernel keeps of SCSI disks;
// those of ATA disks come from libata.
func (id *identity) readPages(dir string) {
	id.ata = id.vendor == "ATA"
	if b, err := os.ReadFile(filepath.Join(dir, "vpd_pg89")); err == nil && len(b) >= 60+512 && id.ata {
		// ATA information: IDENTIFY DEVICE data from byte 60 on, strings with the
		// bytes of each word swapped. The inquiry cuts the model at 16 characters.
		id.vendor, id.model = "", ataString(b[60+2*27:60+2*47])
		id.serial = ataString(b[60+2*10 : 60+2*20])
	}
	if b, err := os.ReadFile(filepath.Join(dir, "vpd_pg80")); err == nil && len(b) > 4 && id.serial == "" {
		id.serial = printable(b[4:])
	}
	b, err := os.ReadFile(filepath.Join(dir, "vpd_pg83"))
	if err != nil || len(b) < 4 {
		return
	}
	for b = b[4:]; len(b) >= 4; {
		n := int(b[3])
		if len(b) < 4+n {
			return
		}
		codeset, association, kind, data := b[0]&0xf, b[1]>>4&3, b[1]&0xf, b[4:4+n]
		b = b[4+n:]
		if association != 0 || n == 0 {
			continue // of the port or the target
		}
		text := printable(data)
		if codeset == codesetBinary {
			text = hex.EncodeToString(data)
		}
		switch kind {
		case designatorNAA:
			id.naa = text
			id.scsi = append(id.scsi, "3"+text)
		case designatorEUI64:
			id.scsi = append(id.scsi, "2"+text)
		case designatorT10:
			id.scsi = append(id.scsi, "1"+text)
		case designatorVendor:
			id.scsi = append(id.scsi, "0"+padded(id.vendor, 8)+padded(id.model, 16)+text)
		}
	}
}

func padded(s string, n int) string { return s + strings.Repeat(" ", max(n-len(s), 0)) }

// ataString returns a string of IDENTIFY DEVICE data.
func ataString(b []byte) string {
	out := make([]byte, len(b))
	for i := range len(b) / 2 {
		out[2*i], out[2*i+1] = b[2*i+1], b[2*i]
	}
	return printable(out)
}

// printable keeps what can be shown of the bytes of a foreign device.
func printable(b []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == 0:
			return -1
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, string(b)))
}

// title is the model as people know it.
func (id identity) title() string {
	if id.vendor == "" || id.vendor == "ATA" || strings.HasPrefix(id.model, id.vendor) {
		return printable([]byte(id.model))
	}
	return printable([]byte(id.vendor + " " + id.model))
}

// names returns the names that the rules of udev (60-persistent-storage.rules,
// ata_id, scsi_id, usb_id) give the disk below /dev/disk/by-id.
func (id identity) names() (names []string) {
	add := func(prefix string, parts ...string) {
		for _, p := range parts {
			if p == "" {
				return
			}
		}
		names = append(names, prefix+encodeID(strings.Join(parts, "_")))
	}
	switch id.transport {
	case NVMe:
		add("nvme-", id.model, id.serial)
		add("nvme-", id.model, id.serial, id.namespace)
		add("nvme-", id.wwid)
	case Virtio:
		add("virtio-", id.serial)
	case MMC:
		if id.serial != "" {
			add("mmc-", id.model, "0x"+id.serial)
		}
	case USB:
		// Of these udev takes what there is; two sticks without serial numbers have
		// one name then.
		parts := slices.DeleteFunc([]string{id.vendor, id.model, id.serial}, func(s string) bool { return s == "" })
		if id.model != "" {
			add("usb-", strings.Join(parts, "_")+"-0:0")
		}
	case SATA, SCSI, ISCSI:
		if id.ata {
			add("ata-", id.model, id.serial)
			break
		}
		if id.serial != "" {
			add("scsi-", "S"+padded(id.vendor, 8)+padded(id.model, 16)+id.serial)
		}
		for _, s := range id.scsi {
			add("scsi-", s)
		}
	}
	if id.naa != "" {
		add("wwn-", "0x"+id.naa)
	}
	return names
}

// encodeID replaces what udev does not have in names: runs of white space and
// every other character outside a small set become an underscore.
func encodeID(s string) string {
	s = strings.Join(strings.Fields(s), "_")
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("#+-.:=@_", r) {
			return r
		}
		return '_'
	}, s)
}
