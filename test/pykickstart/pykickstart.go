// Package pykickstart asks pykickstart, whose syntax that of kickstart files is, for
// its opinion on files.
package pykickstart

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// driver reads a list of texts and answers with what is wrong with each, as
// ksvalidator finds it. Options that are deprecated are options all the same, and
// that a user has a second key is no mistake, whatever ksvalidator says. Making a
// parser takes longer than parsing: it is made once, and each text has a copy of the
// process.
const driver = `
import json, os, sys, warnings
from pykickstart.errors import KickstartDeprecationWarning, KickstartParseWarning
from pykickstart.parser import KickstartParser
from pykickstart.version import makeVersion
handler = makeVersion()
def check(text):
    warnings.simplefilter("error", KickstartParseWarning)
    warnings.simplefilter("ignore", KickstartDeprecationWarning)
    warnings.filterwarnings("ignore", "An ssh user")
    try:
        if not text.strip():
            raise RuntimeError("empty file")
        p = KickstartParser(handler, followIncludes=False, errorsAreFatal=True)
        p.readKickstartFromString(text)
    except Exception as e:
        return "%s: %s" % (type(e).__name__, e)
    return ""
answers = []
for text in json.load(sys.stdin):
    r, w = os.pipe()
    if os.fork() == 0:
        os.write(w, check(text).encode()[:4000])
        os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        answers.append(f.read().decode(errors="replace"))
    os.wait()
json.dump(answers, sys.stdout)
`

// Check returns what is wrong with each of the texts, "" for those that are sound.
func Check(texts []string) ([]string, error) {
	in, err := json.Marshal(texts)
	if err != nil {
		return nil, err
	}
	out, err := run(in, "-c", driver)
	if err != nil {
		return nil, err
	}
	var answers []string
	if err := json.Unmarshal(out, &answers); err != nil {
		return nil, err
	}
	if len(answers) != len(texts) {
		return nil, fmt.Errorf("%d answers on %d texts", len(answers), len(texts))
	}
	return answers, nil
}

// Validate runs ksvalidator on a file, and returns what it says as an error.
func Validate(file string) error {
	dir, err := find()
	if err != nil {
		return err
	}
	_, err = run(nil, filepath.Join(dir, "bin", "ksvalidator"), "--firsterror", file)
	return err
}

// find returns the directory that `make tools` installed pykickstart to.
func find() (string, error) {
	dir := os.Getenv("IMGBUILD_PYKICKSTART")
	if dir == "" {
		_, here, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(here), "..", "..", ".cache", "pykickstart")
	}
	if _, err := os.Stat(filepath.Join(dir, "pykickstart", "parser.py")); err != nil {
		return "", fmt.Errorf("%w: make tools installs pykickstart, or set IMGBUILD_PYKICKSTART", err)
	}
	return dir, nil
}

func run(in []byte, args ...string) ([]byte, error) {
	dir, err := find()
	if err != nil {
		return nil, err
	}
	moto := os.Getenv("IMGBUILD_MOTO") // has requests, which pykickstart imports
	if moto == "" {
		moto = filepath.Join(filepath.Dir(dir), "moto")
	}
	python := "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		python = "python3"
	}
	cmd := exec.Command(python, args...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir+":"+moto, "PYTHONDONTWRITEBYTECODE=1", "LC_ALL=C.UTF-8")
	cmd.Stdin = bytes.NewReader(in)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s%s", err, stdout.String(), stderr.String())
	}
	return stdout.Bytes(), nil
}
