package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
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

// keychain finds the credentials of a repository: those that the user gave, or
// else those of files and credential helpers.
type keychain struct {
	given    authn.Authenticator // or nil
	files    []string
	required bool // the files were named by the user
	// helpers are asked in turn, with authFiles for the files.
	helpers []string
	// programs tells whether credential helpers may be run.
	programs bool
}

// authFiles is the name of the files among the helpers.
const authFiles = "containers-auth.json"

// authFile is a credentials file of Podman or Docker.
type authFile struct {
	Auths       map[string]json.RawMessage `json:"auths"`
	CredsStore  string                     `json:"credsStore"`
	CredHelpers map[string]string          `json:"credHelpers"`
}

func newKeychain(opt Options) (*keychain, error) {
	k := &keychain{helpers: []string{authFiles}, programs: opt.Getenv != nil}
	switch {
	case opt.RegistryToken != "":
		k.given = authn.FromConfig(authn.AuthConfig{RegistryToken: opt.RegistryToken})
		return k, nil
	case opt.Creds != "":
		if err := CheckCreds(opt.Creds); err != nil {
			return nil, err
		}
		user, password, _ := strings.Cut(opt.Creds, ":")
		k.given = authn.FromConfig(authn.AuthConfig{Username: user, Password: password})
		return k, nil
	case opt.AuthFile != "":
		if _, err := os.Stat(opt.AuthFile); err != nil {
			return nil, fault.New(fault.Usage, fmt.Errorf("credentials file: %w", err), "")
		}
		k.files, k.required = []string{opt.AuthFile}, true
		return k, nil
	}
	k.files = DefaultAuthFiles(opt.Getenv, opt.Home)
	k.required = opt.Getenv != nil && opt.Getenv("REGISTRY_AUTH_FILE") != ""
	config, err := loadRegistries(opt)
	if err != nil {
		return nil, err
	}
	if config.Helpers != nil {
		k.helpers = config.Helpers
	}
	return k, nil
}

// Resolve implements authn.Keychain.
func (k *keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), r)
}

// ResolveContext implements authn.ContextKeychain.
func (k *keychain) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	if k.given != nil {
		return k.given, nil
	}
	for _, helper := range k.helpers {
		var auth authn.Authenticator
		var err error
		if helper == authFiles {
			auth, err = k.fromFiles(ctx, r)
		} else {
			auth, err = k.ask(ctx, helper, r.RegistryStr())
		}
		if auth != nil || err != nil {
			return auth, err
		}
	}
	return authn.Anonymous, nil
}

// fromFiles looks into the files in turn. Without an entry it returns nil.
func (k *keychain) fromFiles(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	for _, name := range k.files {
		f, err := readAuthFile(name)
		if err != nil && !k.required && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fault.New(fault.Auth, fmt.Errorf("credentials file: %w", err), "")
		}
		if helper := f.helper(r.RegistryStr()); helper != "" {
			if auth, err := k.ask(ctx, helper, r.RegistryStr()); auth != nil || err != nil {
				return auth, err
			}
		}
		if raw, found := f.find(r.String()); found {
			var config authn.AuthConfig
			// The message of the error could show a part of the secret.
			if json.Unmarshal(raw, &config) != nil {
				return nil, fault.New(fault.Auth, fmt.Errorf("credentials file %s: malformed entry for %s", name, r.RegistryStr()), "")
			}
			if config != (authn.AuthConfig{}) {
				return authn.FromConfig(config), nil
			}
		}
		if f.CredsStore != "" {
			if auth, err := k.ask(ctx, f.CredsStore, r.RegistryStr()); auth != nil || err != nil {
				return auth, err
			}
		}
	}
	return nil, nil
}

// reHelper is the name of a credential helper, without the prefix of its program.
var reHelper = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.-]*$`)

// tokenUser is the user name by which a helper says that the secret is an
// identity token.
const tokenUser = "<token>"

// ask runs a credential helper, docker-credential-NAME. It may want something of
// the user, but is not waited for longer than the context. Without credentials
// for the registry the result is nil.
func (k *keychain) ask(ctx context.Context, helper, registry string) (authn.Authenticator, error) {
	if !k.programs {
		return nil, nil
	}
	fail := func(err error) (authn.Authenticator, error) {
		return nil, fault.New(fault.Auth, fmt.Errorf("credential helper %s: %w", clip(helper), err), "")
	}
	if !reHelper.MatchString(helper) {
		return fail(errors.New("is not a name"))
	}
	type answer struct {
		creds *credentials.Credentials
		err   error
	}
	// Docker knows its own registry by a URL.
	servers := []string{registry}
	if authKey(registry) == defaultRegistry {
		servers = []string{authn.DefaultAuthKey, defaultRegistry}
	}
	for _, server := range servers {
		done := make(chan answer, 1)
		go func() {
			c, err := client.Get(client.NewShellProgramFunc("docker-credential-"+helper), server)
			done <- answer{c, err}
		}()
		select {
		case a := <-done:
			if credentials.IsErrCredentialsNotFound(a.err) {
				continue
			}
			if a.err != nil {
				return fail(a.err)
			}
			if a.creds.Username == tokenUser {
				return authn.FromConfig(authn.AuthConfig{IdentityToken: a.creds.Secret}), nil
			}
			return authn.FromConfig(authn.AuthConfig{Username: a.creds.Username, Password: a.creds.Secret}), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, nil
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

// helper returns the name of the credential helper for a registry, or "".
func (f *authFile) helper(registry string) string {
	for key, name := range f.CredHelpers {
		if authKey(key) == authKey(registry) {
			return name
		}
	}
	return ""
}
