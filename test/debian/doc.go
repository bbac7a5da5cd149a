// Package debian fetches packages of a Debian archive and reads what is in
// them: without apt or dpkg, as an ordinary user, on any system, and without
// running anything that a package brings along.
//
// It is what the tests take real kernels, boot loaders and reference tools
// from. The subset: one suite, component main, one architecture ("Debian
// Repository Format", https://wiki.debian.org/DebianRepository/Format); binary
// packages of format 2.0 with a control and a data member (deb(5)); Depends and
// Pre-Depends without their version restrictions, which hold by themselves
// within one suite; no Conflicts, no Recommends.
//
// Trust: every package is checked against the SHA-256 of the index, and the
// index against that of InRelease. The OpenPGP signature of InRelease is not
// checked, so all of it is as trustworthy as the mirror and the way to it.
package debian
