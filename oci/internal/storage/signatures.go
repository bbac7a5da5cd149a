package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// signatureSizes is what the metadata of an image says of its signatures, which
// are in one file without anything between them, storage_image.go of
// containers/image.
type signatureSizes struct {
	Own        []int64            `json:"signature-sizes"`
	ByManifest map[string][]int64 `json:"signatures-sizes"`
}

// Store returns the driver and the graph root that the image is in.
func (i *Image) Store() (driver, root string) { return i.place.driver, i.place.root }

// Signatures returns the signatures of the image and of its manifest with a
// digest, as they came with it, at most limit bytes of them.
func (i *Image) Signatures(digest string, limit int64) ([][]byte, error) {
	if i.rec.Metadata == "" {
		return nil, nil
	}
	var sizes signatureSizes
	if err := json.Unmarshal([]byte(i.rec.Metadata), &sizes); err != nil {
		return nil, fmt.Errorf("image %s: metadata: invalid JSON: %w", i.rec.ID, err)
	}
	_, hex, _ := strings.Cut(digest, ":")
	list, err := i.split("signature-"+hex, sizes.ByManifest[digest], limit)
	if err != nil {
		return nil, err
	}
	own, err := i.split("signatures", sizes.Own, limit)
	return append(list, own...), err
}

// split reads a file of signatures and returns them.
func (i *Image) split(key string, sizes []int64, limit int64) (list [][]byte, err error) {
	if len(sizes) == 0 {
		return nil, nil
	}
	data, err := i.Data(key, limit)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("image %s: the store lacks its %s", i.rec.ID, key)
	}
	if err != nil {
		return nil, err
	}
	for _, n := range sizes {
		if n < 0 || n > int64(len(data)) {
			return nil, fmt.Errorf("image %s: %s: shorter than the metadata says", i.rec.ID, key)
		}
		list, data = append(list, data[:n]), data[n:]
	}
	return list, nil
}
