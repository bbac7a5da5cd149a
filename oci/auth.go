package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"imgbuild/fault"
)

// maxAuthFile is the most that is read of a credentials file, in bytes.
const maxAuthFile = 1 << 20

// DefaultAuthFiles returns the credentials files that are looked at in turn,
// containers-auth.json(5): $REGISTRY_AUTH_FILE alone if it is set, otherwise
// those of Podman and then that of Docker. None of them has to exist.
func DefaultAuthFiles(getenv func(string) string, home string) []string {
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	if f := getenv("REGISTRY_AUTH_FILE"); f != "" {
		return []string{f}
	}
	var files []string
	add := func(dir string, path ...string) {
		if dir != "" {
			files = append(files, filepath.Join(append([]string{dir}, path...)...))
		}
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		add(dir, "containers", "auth.json")
	} else if runtime.GOOS == "linux" {
		add("/run/containers", strconv.Itoa(os.Getuid()), "auth.json")
	}
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		add(dir, "containers", "auth.json")
	} else {
		add(home, ".config", "containers", "auth.json")
	}
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		add(dir, "config.json")
	} else {
		add(home, ".docker", "config.json")
	}
	return files
}

// keychain finds the credentials of a repository in files.
type keychain struct {
	files    []string
	required bool // the files were named by the user
	// helpers asks the credential helpers that a file names, or is nil.
	helpers authn.Keychain
}

// authFile is a credentials file of Podman or Docker.
type authFile struct {
	Auths       map[string]json.RawMessage `json:"auths"`
	CredsStore  string                     `json:"credsStore"`
	CredHelpers map[string]string          `json:"credHelpers"`
}

func newKeychain(opt Options) (authn.Keychain, error) {
	if opt.AuthFile != "" {
		if _, err := os.Stat(opt.AuthFile); err != nil {
			return nil, fault.New(fault.Usage, fmt.Errorf("credentials file: %w", err), "")
		}
		return &keychain{files: []string{opt.AuthFile}, required: true}, nil
	}
	k := &keychain{files: DefaultAuthFiles(opt.Getenv, opt.Home)}
	if opt.Getenv != nil {
		k.required = opt.Getenv("REGISTRY_AUTH_FILE") != ""
		k.helpers = authn.DefaultKeychain
	}
	return k, nil
}

// Resolve implements authn.Keychain.
func (k *keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), r)
}

// ResolveContext implements authn.ContextKeychain.
func (k *keychain) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	for _, name := range k.files {
		f, err := readAuthFile(name)
		if err != nil && !k.required && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fault.New(fault.Auth, fmt.Errorf("credentials file: %w", err), "")
		}
		raw, found := f.find(r.String())
		if found {
			var config authn.AuthConfig
			// The message of the error could show a part of the secret.
			if json.Unmarshal(raw, &config) != nil {
				return nil, fault.New(fault.Auth, fmt.Errorf("credentials file %s: malformed entry for %s", name, r.RegistryStr()), "")
			}
			if config != (authn.AuthConfig{}) {
				return authn.FromConfig(config), nil
			}
		}
		if k.helpers != nil && f.helper(r.RegistryStr()) {
			return k.ask(ctx, r)
		}
	}
	return authn.Anonymous, nil
}

// ask runs a credential helper, which may want something of the user, but not
// for longer than the context.
func (k *keychain) ask(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	type answer struct {
		auth authn.Authenticator
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		auth, err := authn.Resolve(ctx, k.helpers, r)
		done <- answer{auth, err}
	}()
	select {
	case a := <-done:
		return a.auth, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func readAuthFile(name string) (*authFile, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	r, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := readLimited(r, name, maxAuthFile)
	if err != nil {
		return nil, err
	}
	var f authFile
	if len(strings.TrimSpace(string(raw))) > 0 && json.Unmarshal(raw, &f) != nil {
		return nil, fmt.Errorf("%s: invalid JSON", name)
	}
	return &f, nil
}

// find returns the entry for a repository: the longest of repository,
// namespaces and registry that has one. Docker also writes URLs as keys.
func (f *authFile) find(repo string) (json.RawMessage, bool) {
	byKey := make(map[string]json.RawMessage, len(f.Auths))
	for key, raw := range f.Auths {
		if k := authKey(key); k != key {
			if _, exact := f.Auths[k]; exact {
				continue
			}
			key = k
		}
		byKey[key] = raw
	}
	for key := authKey(repo); ; {
		if raw, ok := byKey[key]; ok {
			return raw, true
		}
		i := strings.LastIndexByte(key, '/')
		if i < 0 {
			return nil, false
		}
		key = key[:i]
	}
}

// authKey normalises a key: URLs stand for their host, all names of Docker Hub
// for docker.io.
func authKey(key string) string {
	for _, scheme := range []string{"https://", "http://"} {
		if rest, ok := strings.CutPrefix(key, scheme); ok {
			key, _, _ = strings.Cut(rest, "/")
		}
	}
	host, rest, ok := strings.Cut(key, "/")
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		host = defaultRegistry
	}
	if ok {
		return host + "/" + rest
	}
	return host
}

// helper tells whether the file leaves the registry to a credential helper.
func (f *authFile) helper(registry string) bool {
	if f.CredsStore != "" {
		return true
	}
	for key, name := range f.CredHelpers {
		if name != "" && authKey(key) == authKey(registry) {
			return true
		}
	}
	return false
}
