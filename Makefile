# imgbuild: see README.md. Needs Go and a network, nothing else.
GO ?= go
CACHE := $(CURDIR)/.cache
BIN := bin/imgbuild

.PHONY: build demo test bench soak fuzz lint sample samples tools clean $(BIN)

build: $(BIN)

# One static binary, the same bytes from the same sources.
$(BIN):
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-s -o $@ ./cmd/imgbuild

# A small real bootc image, made of Debian packages without root.
sample: $(CACHE)/sample/index.json
$(CACHE)/sample/index.json:
	$(GO) run ./test/sample image -cache $(CACHE)/debian -o $(CACHE)/sample

# The same for arm64, one without bootupd's files, and one like those of Fedora and
# CentOS, whose SELinux policy is compiled by tools for Linux on amd64.
$(CACHE)/sample-arm64/index.json:
	$(GO) run ./test/sample image -arch arm64 -cache $(CACHE)/debian -o $(CACHE)/sample-arm64
$(CACHE)/sample-plain/index.json:
	$(GO) run ./test/sample image -plain -cache $(CACHE)/debian -o $(CACHE)/sample-plain
$(CACHE)/sample-fedoralike/index.json:
	$(GO) run ./test/sample image -fedoralike -cache $(CACHE)/debian -o $(CACHE)/sample-fedoralike
samples: sample $(CACHE)/sample-arm64/index.json $(CACHE)/sample-plain/index.json $(CACHE)/sample-fedoralike/index.json

# The tools that own the formats, as packages without root, and an AWS to test with.
tools: $(CACHE)/tools/bin/ostree $(CACHE)/moto/moto/server.py $(CACHE)/pykickstart/pykickstart/parser.py $(CACHE)/spdx/spdx_tools/__init__.py
$(CACHE)/tools/bin/ostree: test/sample/tools.go test/sample/policy.go
	$(GO) run ./test/sample tools -cache $(CACHE)/debian -o $(CACHE)/tools
	touch $@

# The system's Python, which other users can run as well.
PYTHON := $(firstword $(wildcard /usr/bin/python3) python3)
$(CACHE)/moto/moto/server.py: test/moto/requirements.txt
	rm -rf $(CACHE)/moto $(CACHE)/moto.part
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --root-user-action ignore --target $(CACHE)/moto.part -r test/moto/requirements.txt
	mv $(CACHE)/moto.part $(CACHE)/moto
	touch $@
$(CACHE)/pykickstart/pykickstart/parser.py: test/pykickstart/requirements.txt
	rm -rf $(CACHE)/pykickstart $(CACHE)/pykickstart.part
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --root-user-action ignore --target $(CACHE)/pykickstart.part -r test/pykickstart/requirements.txt
	mv $(CACHE)/pykickstart.part $(CACHE)/pykickstart
	touch $@

# The validator of the SPDX project.
$(CACHE)/spdx/spdx_tools/__init__.py: test/spdx/requirements.txt
	rm -rf $(CACHE)/spdx $(CACHE)/spdx.part
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --root-user-action ignore --target $(CACHE)/spdx.part -r test/spdx/requirements.txt
	mv $(CACHE)/spdx.part $(CACHE)/spdx
	touch $@

# The main job on the sample: build a disk, and boot it where there is QEMU.
demo: build sample
	$(BIN) --type qcow2 --output output --cache $(CACHE)/imgbuild --target-imgref registry.example.com/sample:1 oci:$(CACHE)/sample
	@if command -v qemu-system-x86_64 >/dev/null && command -v qemu-img >/dev/null; then \
		echo "booting output/qcow2/disk.qcow2 in QEMU; half a minute without KVM"; \
		$(GO) run ./test/qemu/boottest -firmware bios output/qcow2/disk.qcow2; \
	else \
		echo "output/qcow2/disk.qcow2 is built; install qemu-system-x86 and qemu-utils to see it boot"; \
	fi

test:
	GO=$(GO) test/run

# Builds against the floor of the same image, in one run, and what an encapsulated
# base and SELinux add. BENCH_IMAGE is an OCI layout, BENCH_PEER a program to compare
# with.
# Then the writers of file systems against the programs of their owners, for so many
# files: not slower, in 200 MiB up to 100,000 files, linear. That writes up to 20 GB.
# Last mksquashfs, with the files of the directory BENCH_TREE.
BENCH_IMAGE ?= $(CACHE)/sample
BENCH_FILES ?= 10000,100000,1000000
BENCH_TREE ?= $(shell $(GO) env GOROOT)
BENCH_LABELLED ?= $(CACHE)/sample-fedoralike
bench: build samples tools
	$(GO) run ./test/bench -image $(BENCH_IMAGE) -bin $(BIN) -max-cold 3 -max-rss 400 $(if $(BENCH_PEER),-peer $(BENCH_PEER))
	$(GO) run ./test/bench -image $(BENCH_LABELLED) -bin $(BIN) -max-cold 3 -max-rss 400 -max-labels 0.25
	$(GO) run ./test/bench -image $(BENCH_IMAGE) -bin $(BIN) -formats
	$(GO) run ./test/bench -image $(BENCH_IMAGE) -bin $(BIN) -iso
	PATH="$(CACHE)/tools/bin:$$PATH" $(GO) run ./test/bench -filesystems $(BENCH_FILES) -check
	$(GO) run ./test/bench -squashfs $(BENCH_TREE) -check

# The tests of file systems with a thousand random trees, a million files and other
# sizes that take hours, and a thousand random layouts; as root also those that mount.
soak: build sample tools
	PATH="$(CACHE)/tools/bin:$$PATH:/usr/sbin:/sbin" IMGBUILD_SOAK=1 $(GO) test -timeout 12h ./filesystem/... $$([ "$$(id -u)" != 0 ] || echo ./test/mount)
	PATH="$(CACHE)/tools/bin:$$PATH:/usr/sbin:/sbin" IMGBUILD_SOAK=1 $(GO) test -timeout 12h -run TestRandomLayouts ./test/e2e
	PATH="$(CACHE)/tools/bin:$$PATH:/usr/sbin:/sbin" IMGBUILD_POWER_CUTS=20 $(GO) test -timeout 12h -run TestInstallPowerCut ./test/qemu

# Every fuzz target for FUZZTIME each, and FUZZPARSERS for those that read what
# strangers write.
FUZZTIME ?= 1m
FUZZPARSERS ?= $(FUZZTIME)
fuzz: sample tools
	GO=$(GO) test/fuzz $(FUZZTIME) $(FUZZPARSERS)

lint:
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...

clean:
	rm -rf bin output $(CACHE)
