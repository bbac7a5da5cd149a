package main

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"imgbuild/test/debian"
)

// policyVersion is the format of the binary policy: one that kernels since 5.8
// load. The kernel's name for it is POLICYDB_VERSION_COMP_FTRANS.
const policyVersion = "33"

// The two programs that make a policy of modules, and the packages they are of:
// the converter to CIL that semodule runs, and the compiler.
const (
	moduleConverter = "usr/libexec/selinux/hll/pp"
	policyCompiler  = "usr/bin/secilc"
)

var compilerPackages = []string{"policycoreutils", "secilc"}

// checkHost tells whether the two run here.
func checkHost() error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("the SELinux policy is compiled by Debian's tools for Linux on amd64, not on %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	return nil
}

// compilePolicy makes the binary policy and the file contexts of the modules in
// the tree, and removes the modules: what semodule does when the package is set
// up, but with all modules enabled.
func compilePolicy(ctx context.Context, root rootfs, archive *debian.Archive) error {
	dir, err := os.MkdirTemp("", "sample-policy-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h, err := fetchCompiler(ctx, archive, filepath.Join(dir, "root"))
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	var modules []string // in CIL, ascending by name
	for _, name := range root.paths() {
		n := root[name]
		if path.Dir(name) != modulesDir+"/"+selinuxType || n.typ != tar.TypeReg || !strings.HasSuffix(name, ".pp.bz2") {
			continue
		}
		pp := filepath.Join(dir, strings.TrimSuffix(path.Base(name), ".bz2"))
		cil := strings.TrimSuffix(pp, ".pp") + ".cil"
		modules = append(modules, cil)
		g.Go(func() error {
			module, err := io.ReadAll(io.LimitReader(bzip2.NewReader(bytes.NewReader(n.data)), maxPolicyModule))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := os.WriteFile(pp, module, 0o600); err != nil {
				return err
			}
			return h.run(gctx, moduleConverter, pp, cil)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if len(modules) == 0 {
		return fmt.Errorf("no modules in %s", modulesDir)
	}
	// Modules declare some names twice, and libsemanage leaves the check of
	// neverallow rules out as well unless it is configured.
	policy, contexts := filepath.Join(dir, "policy"), filepath.Join(dir, "contexts")
	args := append([]string{"-m", "-N", "-c", policyVersion, "-o", policy, "-f", contexts}, modules...)
	if err := h.run(ctx, policyCompiler, args...); err != nil {
		return err
	}
	binary, err := os.ReadFile(policy)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(contexts)
	if err != nil {
		return err
	}
	root.file(selinuxDir+"policy/policy."+policyVersion, 0o644, binary)
	files, homedirs := splitContexts(strings.Split(string(text), "\n"))
	root.text(selinuxDir+"contexts/files/file_contexts", files)
	root.text(selinuxDir+"contexts/files/file_contexts.homedirs", homedirs)
	root.remove(modulesDir)
	return nil
}

// host is a directory of packages whose programs are run.
type host string

// fetchCompiler unpacks the two programs with their libraries into dir.
func fetchCompiler(ctx context.Context, archive *debian.Archive, dir string) (host, error) {
	packages, err := archive.Resolve(compilerPackages, toolsDrop)
	if err != nil {
		return "", err
	}
	debs, err := archive.Fetch(ctx, packages)
	if err != nil {
		return "", err
	}
	keep := func(p string) bool {
		return p == moduleConverter || p == policyCompiler || path.Dir(p) == "usr/lib/"+toolsTriplet
	}
	tools, err := readPackages(ctx, debs, keep)
	if err != nil {
		return "", err
	}
	return host(dir), extract(tools, dir)
}

// run runs a program by the packages' own loader, as the wrappers of the tools do.
func (h host) run(ctx context.Context, name string, args ...string) error {
	dir := string(h)
	args = append([]string{"--library-path", filepath.Join(dir, "usr/lib", toolsTriplet), filepath.Join(dir, name)}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(dir, toolsLoader), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", path.Base(name), err, bytes.TrimSpace(out))
	}
	return nil
}
