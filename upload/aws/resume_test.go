package aws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/test/moto"
)

// half uploads until some blocks are there, and returns the snapshot and the
// number of blocks that were confirmed.
func half(t *testing.T, f *moto.Front, opt Options, d Disk) (id string, confirmed int) {
	t.Helper()
	t.Setenv("AWS_MAX_ATTEMPTS", "2")
	stop := false
	f.Break(moto.Fault{Action: "ebs:PutSnapshotBlock", When: func(moto.Request) bool {
		if !stop && confirmed < 25 {
			confirmed++
			return false
		}
		return !stop
	}, Code: "RequestThrottledException", Status: 400, Text: "Rate exceeded"})
	_, err := upload(t, opt, d)
	stop = true
	says(t, err, fault.Upload, "Rate exceeded", "; snapshot snap-", " is kept", "--aws-resume snap-")
	id = regexp.MustCompile(`snap-[0-9a-f]+`).FindString(fault.HintOf(err))
	if l := left(t, f); len(l) != 1 || l[0] != id {
		t.Fatalf("left: %v, want %s", l, id)
	}
	return id, confirmed
}

// pending returns the options that go on with a snapshot of which a half is there.
func pending(t *testing.T) (*moto.Front, Options, Disk) {
	t.Helper()
	f := newFront(t)
	opt := options(f)
	opt.Keep = true
	d := newDisk(t)
	opt.Resume, _ = half(t, f, opt, d)
	return f, opt, d
}

// An upload goes on where it stopped, and sends only what is missing.
func TestResume(t *testing.T) {
	f := newFront(t)
	opt := options(f)
	opt.Keep, opt.Journals = true, filepath.Join(t.TempDir(), "a", "journals")
	d := newDisk(t)
	id, confirmed := half(t, f, opt, d)
	before := len(f.Requests("ebs:PutSnapshotBlock"))
	opt.Keep, opt.Resume = false, id
	result, err := upload(t, opt, d)
	if err != nil {
		t.Fatal(err)
	}
	if result.SnapshotID != id {
		t.Errorf("snapshot %s, want %s", result.SnapshotID, id)
	}
	readBack(t, f, id, d.Image)
	// The answers to some may not have arrived before the upload was given up.
	if sent := len(f.Requests("ebs:PutSnapshotBlock")) - before; sent < 67-confirmed || sent > 67-confirmed+20 {
		t.Errorf("%d blocks sent, of 67 %d were there", sent, confirmed)
	}
	if n := len(f.Requests("ebs:StartSnapshot")); n != 1 {
		t.Errorf("%d snapshots started", n)
	}
	if list, err := os.ReadDir(opt.Journals); err != nil || len(list) > 0 {
		t.Errorf("journals %v, %v", list, err)
	}
}

// Without a journal all blocks are sent again.
func TestResumeElsewhere(t *testing.T) {
	f, opt, d := pending(t)
	id := opt.Resume
	before := len(f.Requests("ebs:PutSnapshotBlock"))
	if _, err := upload(t, opt, d); err != nil {
		t.Fatal(err)
	}
	readBack(t, f, id, d.Image)
	if sent := len(f.Requests("ebs:PutSnapshotBlock")) - before; sent != 67 {
		t.Errorf("%d blocks sent", sent)
	}
}

// A damaged journal makes no wrong snapshot: the service checks the sum.
func TestResumeDamaged(t *testing.T) {
	f := newFront(t)
	opt := options(f)
	opt.Keep, opt.Journals = true, t.TempDir()
	d := newDisk(t)
	id, _ := half(t, f, opt, d)
	path := filepath.Join(opt.Journals, id+journalSuffix)
	// All blocks are said to be there.
	token, err := diskToken(d.Image)
	if err != nil {
		t.Fatal(err)
	}
	j, _, err := openJournal(opt.Journals, id, token, 3*2048)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, blockSize)
	for off, n := range d.Image.Data(blockSize) {
		for end := off + n; off < end; off += blockSize {
			clear(buf)
			_, _ = d.Image.ReadAt(buf, off)
			if !isZero(buf) {
				if err := j.add(int32(off/blockSize), sha256.Sum256(buf)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	j.close(false)
	opt.Resume = id
	_, err = upload(t, opt, d)
	says(t, err, fault.Upload, "complete snapshot "+id, "ValidationException")
	// One that is overwritten is as good as none.
	if err := os.WriteFile(path, []byte("something else, and long enough to be a journal"), 0o666); err != nil {
		t.Fatal(err)
	}
	p := &messages{}
	if _, err := uploadIn(t.Context(), opt, d, p); err != nil {
		t.Fatal(err)
	}
	readBack(t, f, id, d.Image)
	if len(p.notes) != 1 || !strings.Contains(p.notes[0], "the progress of "+id+" is not kept") {
		t.Errorf("notes %q", p.notes)
	}
}

// A complete snapshot needs the AMI only.
func TestResumeComplete(t *testing.T) {
	f := newFront(t)
	opt := options(f)
	opt.Keep = true
	f.Break(moto.Fault{Action: "ec2:RegisterImage", When: real, Times: 1, Code: "UnauthorizedOperation", Status: 403})
	d := smallDisk(t)
	_, err := upload(t, opt, d)
	says(t, err, fault.Upload, "register image", "--aws-resume snap-")
	opt.Resume = regexp.MustCompile(`snap-[0-9a-f]+`).FindString(fault.HintOf(err))
	before := len(f.Requests("ebs:PutSnapshotBlock"))
	if _, err := upload(t, opt, d); err != nil {
		t.Fatal(err)
	}
	if n := len(f.Requests("ebs:PutSnapshotBlock")) - before; n != 0 {
		t.Errorf("%d blocks sent", n)
	}
}

// An interrupted upload that is to be kept is.
func TestResumeInterrupted(t *testing.T) {
	f := newFront(t)
	opt := options(f)
	opt.Keep = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.Break(moto.Fault{Action: "ebs:PutSnapshotBlock", Times: 1, Do: func(moto.Request) { cancel() }})
	_, err := uploadIn(ctx, opt, newDisk(t), &messages{})
	says(t, err, fault.Interrupted, "upload interrupted; snapshot snap-", " is kept", "--aws-resume snap-")
	if l := left(t, f); len(l) != 1 {
		t.Errorf("left: %v", l)
	}
}

// What cannot be resumed is refused, and stays as it is.
func TestResumeRefused(t *testing.T) {
	f, opt, d := pending(t)
	id := opt.Resume
	opt.Keep = false

	other := smallDisk(t)
	_, err := upload(t, opt, other)
	says(t, err, fault.Upload, "--aws-resume "+id+": the snapshot belongs to another disk", "without --aws-resume")
	// One of the same beginning and size, with something less at its end: the
	// journal tells, or the sum.
	extents := d.Image.(*disk.Image).Extents()
	img, err := disk.New(d.Image.Size(), append(append([]disk.Extent{}, extents[:2]...), disk.Extent{Off: 1800 << 20, Data: content.String("new")}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = upload(t, opt, Disk{Image: img, Arch: "amd64", UEFI: true, BIOS: true})
	says(t, err, fault.Upload, "complete snapshot "+id, "ValidationException")
	if l := left(t, f); len(l) != 1 || l[0] != id {
		t.Errorf("left: %v", l)
	}
	opt.Resume = "snap-0123456789abcdef0"
	_, err = upload(t, opt, d)
	says(t, err, fault.Upload, "snapshot snap-0123456789abcdef0: InvalidSnapshot.NotFound")
	if n := len(f.Requests("ec2:RegisterImage")); n != 0 {
		t.Errorf("%d AMIs registered", n)
	}
}

// Only a snapshot that imgbuild made, and that is as the flags want it, becomes an
// AMI; that is found out before the build.
func TestResumeForeign(t *testing.T) {
	f, opt, d := pending(t)
	id := opt.Resume
	opt.Keep = false
	refuse := func(opt Options, words ...string) {
		t.Helper()
		u, err := New(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		says(t, u.Check(t.Context(), d.Arch), fault.Upload, append(words, "without --aws-resume")...)
	}
	secret := opt
	secret.Encrypt = true
	refuse(secret, "--aws-resume "+id+": the snapshot is not encrypted")
	c := client(t, f, home)
	if _, err := c.ec2.DeleteTags(t.Context(), &ec2.DeleteTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: aws.String(diskTag)}}}); err != nil {
		t.Fatal(err)
	}
	refuse(opt, "--aws-resume "+id+": the snapshot was not made by imgbuild")
}

// With a key, the snapshot has to have it.
func TestResumeEncrypted(t *testing.T) {
	f := newFront(t)
	opt := options(f)
	opt.Keep, opt.KMSKey = true, "01234567-89ab-cdef-0123-456789abcdef"
	d := newDisk(t)
	id, _ := half(t, f, opt, d)
	opt.Resume = id
	other := opt
	other.KMSKey = "76543210-89ab-cdef-0123-456789abcdef"
	_, err := upload(t, other, d)
	says(t, err, fault.Upload, "the snapshot is encrypted with arn:aws:kms:eu-central-1:123456789012:key/01234567-")
	if _, err := upload(t, opt, d); err != nil {
		t.Fatal(err)
	}
}

// A snapshot that ended in an error is of no use to anybody, and is removed.
func TestResumeError(t *testing.T) {
	f, opt, d := pending(t)
	id := opt.Resume
	f.Break(moto.Fault{Action: "ebs:CompleteSnapshot", Do: func(moto.Request) { f.Fail(id, "Given key ID is not accessible") }})
	_, err := upload(t, opt, d)
	refused(t, f, err, fault.Upload, "snapshot "+id+": Given key ID is not accessible")
	if strings.Contains(err.Error()+fault.HintOf(err), "resume") {
		t.Errorf("%v; %s", err, fault.HintOf(err))
	}
}

// An upload does not end because its progress cannot be written down any more.
func TestJournalFull(t *testing.T) {
	f := newFront(t)
	p := &messages{}
	r := &run{Uploader: client(t, f, home), disk: newDisk(t), gib: 3, progress: p, token: testToken}
	if err := r.startSnapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	j, known, err := openJournal(t.TempDir(), r.snapshot, testToken, 3*2048)
	if err != nil {
		t.Fatal(err)
	}
	j.file.Close()
	sent, err := r.putBlocks(t.Context(), known, j)
	if err != nil || len(sent) != 67 {
		t.Fatalf("%d blocks, %v", len(sent), err)
	}
	if len(p.notes) != 1 || !strings.Contains(p.notes[0], "warning: the progress of "+r.snapshot+" is not kept: ") {
		t.Errorf("notes %q", p.notes)
	}
}

// With the snapshot still there because nobody could be reached, so is the
// journal.
func TestResumeAfterOutage(t *testing.T) {
	f := newFront(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "2")
	opt := options(f)
	opt.Journals = t.TempDir()
	d := newDisk(t)
	up, down := 0, true
	f.Break(moto.Fault{Action: "ebs:PutSnapshotBlock", When: func(moto.Request) bool { up++; return down && up > 20 }, Cut: true})
	f.Break(moto.Fault{Action: "ec2:DeleteSnapshot", When: func(r moto.Request) bool { return down && real(r) }, Cut: true})
	_, err := upload(t, opt, d)
	says(t, err, fault.Upload, "the connection was cut", "left behind", "--aws-resume snap-")
	down = false
	opt.Resume = regexp.MustCompile(`resume (snap-[0-9a-f]+)`).FindStringSubmatch(fault.HintOf(err))[1]
	before := len(f.Requests("ebs:PutSnapshotBlock"))
	result, err := upload(t, opt, d)
	if err != nil {
		t.Fatal(err)
	}
	readBack(t, f, result.SnapshotID, d.Image)
	if sent := len(f.Requests("ebs:PutSnapshotBlock")) - before; sent >= 67 {
		t.Errorf("%d blocks sent", sent)
	}
}

// A snapshot of one's own may be pending for other reasons, or broken.
func TestResumeBroken(t *testing.T) {
	f, opt, d := pending(t)
	id := opt.Resume
	if _, err := client(t, f, home).ec2.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &id}); err != nil {
		t.Fatal(err)
	}
	_, err := upload(t, opt, d)
	refused(t, f, err, fault.Upload, "snapshot "+id+": InvalidSnapshot.NotFound")
}

const testToken = "00112233445566778899aabbccddeeff"

// journalBytes is a journal as an upload writes it.
func journalBytes(t testing.TB, records sums) []byte {
	t.Helper()
	dir := t.TempDir()
	j, known, err := openJournal(dir, "snap-1", testToken, 100)
	if err != nil || len(known) > 0 {
		t.Fatal(known, err)
	}
	for index, sum := range records {
		if err := j.add(index, sum); err != nil {
			t.Fatal(err)
		}
	}
	j.close(false)
	b, err := os.ReadFile(filepath.Join(dir, "snap-1"+journalSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestJournal(t *testing.T) {
	want := sums{0: sha256.Sum256([]byte("a")), 99: sha256.Sum256([]byte("b")), 7: sha256.Sum256(nil)}
	b := journalBytes(t, want)
	for n := range len(b) + 1 {
		got, end, err := readJournal(bytes.NewReader(b[:n]), testToken, 100)
		switch {
		case n == 0:
			if err != nil || end != 0 {
				t.Errorf("empty: %d, %v", end, err)
			}
		case n < sizeJournal:
			if err == nil {
				t.Errorf("%d bytes: no error", n)
			}
		default:
			if records := (n - sizeJournal) / sizeRecord; err != nil || len(got) != records || end != int64(sizeJournal+records*sizeRecord) {
				t.Errorf("%d bytes: %d records, end %d, %v", n, len(got), end, err)
			}
		}
		if n == len(b) && !maps.Equal(got, want) {
			t.Errorf("%v", got)
		}
	}
	if _, _, err := readJournal(bytes.NewReader(b), strings.Repeat("f", 32), 100); !errors.Is(err, errOtherDisk) {
		t.Errorf("other disk: %v", err)
	}
	if _, _, err := readJournal(bytes.NewReader(b), testToken, 99); !errors.Is(err, errOtherDisk) {
		t.Errorf("smaller disk: %v", err)
	}
	// What was cut is written over.
	dir := t.TempDir()
	path := filepath.Join(dir, "snap-2"+journalSuffix)
	if err := os.WriteFile(path, b[:len(b)-1], 0o666); err != nil {
		t.Fatal(err)
	}
	j, known, err := openJournal(dir, "snap-2", testToken, 100)
	if err != nil || len(known) != 2 {
		t.Fatal(known, err)
	}
	if err := j.add(50, sha256.Sum256([]byte("c"))); err != nil {
		t.Fatal(err)
	}
	j.close(false)
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := readJournal(bytes.NewReader(after), testToken, 100); err != nil || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
}

// Journals of uploads that were killed do not stay for ever.
func TestJournalAge(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{"snap-1.blocks": 37 * time.Hour, "snap-2.blocks": 35 * time.Hour, "snap-3.blocks": 0, "other": 1000 * time.Hour} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	j, _, err := openJournal(dir, "snap-4", testToken, 100)
	if err != nil {
		t.Fatal(err)
	}
	j.close(false)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(list); got != "[- other - snap-2.blocks - snap-3.blocks - snap-4.blocks]" {
		t.Error(got)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte{})
	f.Add(journalBytes(f, nil))
	f.Add(journalBytes(f, sums{3: {1}, 4: {2}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		known, end, err := readJournal(bytes.NewReader(b), testToken, 100)
		if err != nil {
			return
		}
		if end > int64(len(b)) || end > 0 && (end-int64(sizeJournal))%int64(sizeRecord) != 0 {
			t.Fatalf("end %d of %d", end, len(b))
		}
		for index := range known {
			if index < 0 || index >= 100 {
				t.Fatalf("block %d", index)
			}
		}
		if again, _, err := readJournal(bytes.NewReader(b[:end]), testToken, 100); err != nil || !maps.Equal(again, known) {
			t.Fatalf("%v, %v", again, err)
		}
	})
}
