package moto

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// blockSize is that of EBS direct APIs.
const blockSize = 512 << 10

// snapshot is what moto does not keep of one that is written by EBS direct APIs.
type snapshot struct {
	pending bool // until CompleteSnapshot
	polls   int  // questions until it is seen to be complete
	failed  string
	key     string // that it is encrypted with; "" is not encrypted
	blocks  map[int][sha256.Size]byte
}

// Fail lets a snapshot end in an error when it is completed.
func (f *Front) Fail(id, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshots[id].failed = why
}

func (f *Front) serveEBS(hr *http.Request, r Request) *answer {
	path := strings.Split(strings.Trim(hr.URL.Path, "/"), "/")
	if r.Action == "StartSnapshot" {
		return f.startSnapshot(hr, r)
	}
	id := path[1]
	if r.Action == "CompleteSnapshot" {
		id = path[2]
	}
	s := f.snapshots[id]
	if s == nil {
		return failure(r, 404, "ResourceNotFoundException", "The snapshot '"+id+"' does not exist.")
	}
	switch reading := strings.HasPrefix(r.Action, "Get") || strings.HasPrefix(r.Action, "List"); {
	case reading && s.pending:
		return failure(r, 400, "ValidationException", "The snapshot "+id+" is not in a completed state.")
	case !reading && !s.pending:
		return failure(r, 400, "ValidationException", "The snapshot "+id+" is not in a pending state.")
	case r.Action == "PutSnapshotBlock":
		return f.putBlock(hr, r, s, path[3])
	case r.Action == "CompleteSnapshot":
		return f.completeSnapshot(hr, r, s)
	}
	return f.forward(hr, r.Body)
}

func (f *Front) startSnapshot(hr *http.Request, r Request) *answer {
	var in struct {
		VolumeSize  int64
		ClientToken string
		Encrypted   bool
		KmsKeyArn   string
	}
	if err := json.Unmarshal(r.Body, &in); err != nil || in.VolumeSize < 1 || in.VolumeSize > 64<<10 || in.ClientToken == "" {
		return failure(r, 400, "ValidationException", "invalid request")
	}
	if old, ok := f.tokens[in.ClientToken]; ok {
		return &answer{201, http.Header{"Content-Type": {"application/json"}}, old}
	}
	a := f.forward(hr, r.Body)
	var out map[string]any
	if json.Unmarshal(a.body, &out) != nil || out["SnapshotId"] == nil {
		return a
	}
	out["BlockSize"] = blockSize // moto says 512
	a.body, _ = json.Marshal(out)
	f.tokens[in.ClientToken] = a.body
	if in.Encrypted && in.KmsKeyArn == "" {
		in.KmsKeyArn = "arn:aws:kms:" + r.Region + ":123456789012:key/00000000-0000-0000-0000-000000000000"
	}
	f.snapshots[out["SnapshotId"].(string)] = &snapshot{pending: true, polls: f.Polls, key: in.KmsKeyArn, blocks: map[int][sha256.Size]byte{}}
	return a
}

func (f *Front) putBlock(hr *http.Request, r Request, s *snapshot, index string) *answer {
	n, err := strconv.ParseInt(index, 10, 32)
	sum := sha256.Sum256(r.Body)
	switch {
	case err != nil || n < 0:
		return failure(r, 400, "ValidationException", "invalid block index")
	case hr.Header.Get("X-Amz-Data-Length") != strconv.Itoa(blockSize) || len(r.Body) != blockSize:
		return failure(r, 400, "ValidationException", fmt.Sprintf("a block has %d bytes, not %d", blockSize, len(r.Body)))
	case hr.Header.Get("X-Amz-Checksum-Algorithm") != "SHA256":
		return failure(r, 400, "ValidationException", "unknown checksum algorithm")
	case hr.Header.Get("X-Amz-Checksum") != base64.StdEncoding.EncodeToString(sum[:]):
		return failure(r, 400, "ValidationException", "the checksum does not match")
	}
	s.blocks[int(n)] = sum
	return f.forward(hr, r.Body)
}

func (f *Front) completeSnapshot(hr *http.Request, r Request, s *snapshot) *answer {
	h := sha256.New()
	for _, n := range slices.Sorted(maps.Keys(s.blocks)) {
		sum := s.blocks[n]
		h.Write(sum[:])
	}
	switch {
	case hr.Header.Get("X-Amz-Changedblockscount") != strconv.Itoa(len(s.blocks)):
		return failure(r, 400, "ValidationException", fmt.Sprintf("%d blocks were written", len(s.blocks)))
	case hr.Header.Get("X-Amz-Checksum-Aggregation-Method") != "LINEAR",
		hr.Header.Get("X-Amz-Checksum") != base64.StdEncoding.EncodeToString(h.Sum(nil)):
		return failure(r, 400, "ValidationException", "the checksum of the snapshot does not match")
	}
	s.pending = false
	return f.forward(hr, r.Body)
}

// makeSnapshot makes a complete snapshot of a disk, as VM Import does.
func (f *Front) makeSnapshot(hr *http.Request, r Request, disk []byte) (string, *answer) {
	header := hr.Header.Clone()
	header.Set("Authorization", strings.Replace(header.Get("Authorization"), "/ec2/", "/ebs/", 1))
	header.Set("Content-Type", "application/json")
	for _, name := range []string{"Content-Length", "X-Amz-Content-Sha256"} {
		header.Del(name)
	}
	body := fmt.Appendf(nil, `{"VolumeSize":%d}`, (len(disk)-1)>>30+1)
	a := f.send(hr, "POST", "/snapshots", header, body)
	var out struct{ SnapshotId string }
	if err := json.Unmarshal(a.body, &out); err != nil || out.SnapshotId == "" {
		return "", a
	}
	header.Set("Content-Type", "application/octet-stream")
	zero := make([]byte, blockSize)
	for n := 0; n*blockSize < len(disk); n++ {
		block := make([]byte, blockSize)
		copy(block, disk[n*blockSize:])
		if bytes.Equal(block, zero) {
			continue
		}
		sum := sha256.Sum256(block)
		header.Set("X-Amz-Data-Length", strconv.Itoa(blockSize))
		header.Set("X-Amz-Checksum-Algorithm", "SHA256")
		header.Set("X-Amz-Checksum", base64.StdEncoding.EncodeToString(sum[:]))
		if a := f.send(hr, "PUT", fmt.Sprintf("/snapshots/%s/blocks/%d", out.SnapshotId, n), header, block); a.status/100 != 2 {
			return "", a
		}
	}
	f.snapshots[out.SnapshotId] = &snapshot{}
	return out.SnapshotId, nil
}
