// Package moto runs the moto server, which has the APIs of AWS on loopback, and a
// front before it that tests talk to. moto keeps the accounts, regions, buckets,
// objects, blocks, snapshots, AMIs, tags and permissions. The front adds what moto
// leaves out, by the API model of the AWS SDK:
//
//   - EBS: moto takes any checksum, in any state. PutSnapshotBlock and
//     CompleteSnapshot are checked here, ClientToken of StartSnapshot works, and a
//     snapshot is pending until it is complete, for DescribeSnapshots and for
//     ListSnapshotBlocks and GetSnapshotBlock, which refuse it until then.
//   - EC2: moto has no ImportSnapshot, DescribeImportSnapshotTasks,
//     CancelImportTask and EnableImageDeprecation: they are served here. Of
//     RegisterImage and CopyImage moto keeps the name and the description: the
//     front keeps the rest, refuses names that are taken and snapshots that are not
//     there, sets the tags, and adds all of it to the answers of DescribeImages.
//     DeleteSnapshot refuses one that an AMI is made of.
//
// It also records all requests, and breaks those that a test wants broken.
package moto

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// Process is a running moto server.
type Process struct {
	URL string
	cmd *exec.Cmd
	log *tail
}

// Start starts moto as `make tools` installed it below dir, or where IMGBUILD_MOTO
// says. Without it the error says what to do.
func Start(dir string) (*Process, error) {
	if d := os.Getenv("IMGBUILD_MOTO"); d != "" {
		dir = d
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "moto", "server.py")); err != nil {
		return nil, fmt.Errorf("%w: make tools installs moto, or set IMGBUILD_MOTO", err)
	}
	python := "/usr/bin/python3" // as in the Makefile
	if _, err := os.Stat(python); err != nil {
		python = "python3"
	}
	cmd := exec.Command(python, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0")
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "MOTO_EC2_LOAD_DEFAULT_AMIS=false")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("moto: %w", err)
	}
	p := &Process{cmd: cmd, log: &tail{}}
	address := make(chan string, 1)
	go func() {
		defer close(address)
		form := regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			p.log.add(lines.Text())
			if m := form.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var ok bool
	select {
	case p.URL, ok = <-address:
	case <-ctx.Done():
	}
	if !ok {
		p.Stop()
		return nil, fmt.Errorf("moto did not start:\n%s", p.log)
	}
	return p, nil
}

// Stop ends the server.
func (p *Process) Stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// tail keeps the last lines of a log.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lines = append(t.lines, line); len(t.lines) > 40 {
		t.lines = t.lines[1:]
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// Environ are the variables by which a client finds no settings but its own: the
// credentials that moto takes, nothing of the user's files, no instance metadata.
func Environ(dir string) map[string]string {
	none := filepath.Join(dir, "none")
	return map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_MAX_ATTEMPTS": "",
		"HTTP_PROXY": "", "HTTPS_PROXY": "", "http_proxy": "", "https_proxy": "",
	}
}

// Setenv sets them for the rest of a test.
func Setenv(t *testing.T) {
	for name, value := range Environ(t.TempDir()) {
		t.Setenv(name, value)
	}
}
