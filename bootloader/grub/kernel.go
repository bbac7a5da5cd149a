package grub

import (
	"encoding/binary"
	"fmt"
	"strings"

	"imgbuild/tree"
)

// platform is what the core images of 32-bit platforms differ in.
type platform struct {
	cpu     string // for errors
	order   binary.ByteOrder
	machine uint16 // ELF machine of the kernel and the modules
	// The kernel lies between these addresses, at the first where that is fixed.
	lowest, highest uint64
	fixed           bool
}

// platformPC is i386-pc.
func platformPC() platform {
	return platform{cpu: "i386", order: binary.LittleEndian, machine: machine386, lowest: kernelLink, highest: maxKernelEnd, fixed: true}
}

// kernelImage is kernel.img as it lies in memory.
type kernelImage struct {
	link   uint64 // address of the first byte
	image  []byte // without .bss
	memory int    // length with .bss, in bytes
	align  int    // largest alignment of a section
}

// payload is what a core image holds: the kernel, and the module area behind
// it.
type payload struct {
	kernel  kernelImage
	area    []byte
	modules []string // in the order they are loaded
}

// composePayload composes the payload from the directory dir in os.
func composePayload(os *tree.Inode, dir string, p platform, o CoreOptions) (*payload, error) {
	if strings.ContainsRune(o.Prefix, 0) || strings.ContainsRune(o.Config, 0) {
		return nil, fmt.Errorf("prefix %q or configuration with a NUL", o.Prefix)
	}
	text, err := tree.ReadFile(os, dir+"/moddep.lst", maxListFile)
	if err != nil {
		return nil, err
	}
	deps, err := ParseModDep(text)
	if err != nil {
		return nil, fmt.Errorf("%s/moddep.lst: %w", dir, err)
	}
	out := &payload{}
	if out.modules, err = deps.Closure(o.Modules); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	kernel, err := tree.ReadFile(os, dir+"/kernel.img", maxKernelFile)
	if err != nil {
		return nil, err
	}
	if out.kernel, err = flattenKernel(kernel, p); err != nil {
		return nil, fmt.Errorf("%s/kernel.img: %w", dir, err)
	}

	b := make([]byte, sizeModInfo32)
	for _, name := range out.modules {
		file := dir + "/" + name + ".mod"
		data, err := tree.ReadFile(os, file, maxModuleFile)
		if err != nil {
			return nil, err
		}
		if f, err := parseELF(data); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		} else if f.class != elfClass32 || f.kind != elfRelocatable || f.machine != p.machine || f.order != p.order {
			return nil, fmt.Errorf("%s: ELF class %d, type %d, machine %d, %v: not a module for %s", file, f.class, f.kind, f.machine, f.order, p.cpu)
		}
		b = appendObject(b, p.order, objectELF, data)
		if len(out.kernel.image)+len(b) > maxUncompressed {
			return nil, fmt.Errorf("%s: core image of more than %d bytes", file, maxUncompressed)
		}
	}
	if o.Config != "" {
		b = appendObject(b, p.order, objectConfig, append([]byte(o.Config), 0))
	}
	b = appendObject(b, p.order, objectPrefix, append([]byte(o.Prefix), 0))
	p.order.PutUint32(b[0:], moduleMagic)
	p.order.PutUint32(b[4:], sizeModInfo32)
	p.order.PutUint32(b[8:], uint32(len(b)))
	out.area = b
	return out, nil
}

// appendObject appends an object of the module area.
func appendObject(b []byte, order binary.ByteOrder, t objectType, data []byte) []byte {
	padded := (len(data) + objectAlign - 1) &^ (objectAlign - 1)
	var header [sizeObject]byte
	order.PutUint32(header[0:], uint32(t))
	order.PutUint32(header[4:], uint32(sizeObject+padded))
	b = append(append(b, header[:]...), data...)
	return append(b, make([]byte, padded-len(data))...)
}

// flattenKernel returns kernel.img as it lies in memory.
//
// As mkimage does for an executable, every allocated section with content goes
// to its address relative to the link address.
func flattenKernel(b []byte, p platform) (kernelImage, error) {
	var k kernelImage
	f, err := parseELF(b)
	if err != nil {
		return k, err
	}
	if f.class != elfClass32 || f.kind != elfExecutable || f.machine != p.machine || f.order != p.order {
		return k, fmt.Errorf("ELF class %d, type %d, machine %d, %v: not an executable for %s", f.class, f.kind, f.machine, f.order, p.cpu)
	}
	k.link, k.align = ^uint64(0), 1
	for _, s := range f.sections {
		if s.flags&sectionAlloc == 0 || s.kind != sectionProgbits && s.kind != sectionNobits {
			continue
		}
		if s.addr < p.lowest || s.addr > p.highest || s.length > p.highest-s.addr {
			return k, fmt.Errorf("section %s at %#x, %d bytes: outside %#x to %#x", s.name, s.addr, s.length, p.lowest, p.highest)
		}
		if s.align > maxAlign || s.align&(s.align-1) != 0 {
			return k, fmt.Errorf("section %s: alignment %#x", s.name, s.align)
		}
		k.align = max(k.align, int(s.align))
		if s.kind == sectionProgbits {
			k.link = min(k.link, s.addr)
		}
	}
	if k.link == ^uint64(0) || p.fixed && k.link != p.lowest {
		return k, fmt.Errorf("no section at the link address %#x", p.lowest)
	}
	for _, s := range f.sections {
		if s.flags&sectionAlloc == 0 || s.kind != sectionProgbits && s.kind != sectionNobits {
			continue
		}
		if s.addr < k.link {
			return k, fmt.Errorf("section %s at %#x: in front of the kernel at %#x", s.name, s.addr, k.link)
		}
		if s.addr+s.length-k.link > maxKernelMemory {
			return k, fmt.Errorf("section %s: a kernel of more than %d bytes", s.name, maxKernelMemory)
		}
		end := int(s.addr + s.length - k.link)
		k.memory = max(k.memory, end)
		if s.kind == sectionNobits {
			continue
		}
		if end > len(k.image) {
			k.image = append(k.image, make([]byte, end-len(k.image))...)
		}
		copy(k.image[s.addr-k.link:], f.content(s))
	}
	return k, nil
}
