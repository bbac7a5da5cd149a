// Package crypt makes and recognises the password hashes of /etc/shadow, in the
// formats of crypt(5) of libxcrypt: $y$ (yescrypt), $6$ (sha512crypt), $5$
// (sha256crypt) and $2b$ (bcrypt). Older ones are recognised and never made.
//
// The algorithms come from github.com/go-crypt/x; salts and settings are encoded
// here as crypt_gensalt(3) does it.
package crypt

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-crypt/x/bcrypt"
	shacrypt "github.com/go-crypt/x/crypt"
	"github.com/go-crypt/x/yescrypt"
)

// Method is a way to hash, by the names of ENCRYPT_METHOD in login.defs(5).
type Method string

// The methods that Hash knows.
const (
	Yescrypt Method = "YESCRYPT"
	SHA512   Method = "SHA512"
	SHA256   Method = "SHA256"
	Bcrypt   Method = "BCRYPT"
)

// The costs that shadow takes where login.defs names none, and its limits.
const (
	yescryptDefault, yescryptMin, yescryptMax = 5, 1, 11
	shaDefault, shaMin, shaMax                = 5000, 1000, 999999999
	bcryptDefault, bcryptMin, bcryptMax       = 13, 4, 31
)

// What one password may cost, as the image's login.defs chooses it: 128 MiB of
// memory, or about five seconds.
const (
	yescryptAffordable = 8
	shaAffordable      = 10_000_000
	bcryptAffordable   = 16
)

// SaltSize is the number of bytes of seed that Hash takes.
const SaltSize = 16

// MaxPassword is the longest password in bytes, the limit of crypt(3):
// CRYPT_MAX_PASSPHRASE_SIZE of libxcrypt less the NUL.
const MaxPassword = 511

// bcryptPassword is the part of a password that bcrypt takes in.
const bcryptPassword = 72

// alphabet has the digits of crypt(3)'s base 64.
const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// ErrCost says that one hash would take too much memory or time.
var ErrCost = errors.New("costs too much")

// Hash hashes a password. The cost is the method's: YESCRYPT_COST_FACTOR,
// SHA_CRYPT_*_ROUNDS or BCRYPT_*_ROUNDS of login.defs; below zero it is shadow's
// default, and as there it is moved into the range that is allowed. The salt is
// made of the first SaltSize bytes of seed.
func Hash(m Method, cost int, password string, seed []byte) (string, error) {
	if len(password) > MaxPassword {
		return "", fmt.Errorf("a password has %d bytes at most", MaxPassword)
	}
	if len(seed) < SaltSize {
		return "", fmt.Errorf("%d bytes of seed for a salt", len(seed))
	}
	seed = seed[:SaltSize]
	switch m {
	case Yescrypt:
		cost = within(cost, yescryptDefault, yescryptMin, yescryptMax)
		if cost > yescryptAffordable {
			return "", fmt.Errorf("yescrypt with cost factor %d: %w", cost, ErrCost)
		}
		return hashYescrypt(cost, password, seed)
	case SHA512, SHA256:
		cost = within(cost, shaDefault, shaMin, shaMax)
		if cost > shaAffordable {
			return "", fmt.Errorf("%d rounds of %s: %w", cost, m, ErrCost)
		}
		return hashSHA(m, cost, password, seed), nil
	case Bcrypt:
		cost = within(cost, bcryptDefault, bcryptMin, bcryptMax)
		if cost > bcryptAffordable {
			return "", fmt.Errorf("bcrypt with 2^%d rounds: %w", cost, ErrCost)
		}
		return hashBcrypt(cost, password, seed)
	}
	return "", fmt.Errorf("unknown method %q", m)
}

func within(n, byDefault, least, most int) int {
	if n < 0 {
		n = byDefault
	}
	return min(max(n, least), most)
}

// hashYescrypt takes the setting of crypt_gensalt: the flags YESCRYPT_DEFAULTS
// ("j"), the logarithm of N, and r, which is 8 for the two lowest costs.
func hashYescrypt(cost int, password string, seed []byte) (string, error) {
	logN, r := cost+7, 32
	if cost < 3 {
		logN, r = cost+9, 8
	}
	setting := append([]byte("$y$"), yescrypt.EncodeSetting(0, logN, r)...)
	setting = append(append(setting, '$'), yescrypt.Encode64(seed)...)
	hash, err := yescrypt.Hash([]byte(password), setting)
	if err != nil {
		return "", fmt.Errorf("yescrypt: %w", err)
	}
	return string(hash), nil
}

// hashSHA names the number of rounds only where it is not the default.
func hashSHA(m Method, rounds int, password string, seed []byte) string {
	prefix, sum := "$6$", sha512.New
	if m == SHA256 {
		prefix, sum = "$5$", sha256.New
	}
	if rounds != shaDefault {
		prefix += "rounds=" + strconv.Itoa(rounds) + "$"
	}
	salt := make([]byte, SaltSize) // 16 digits, the longest salt of SHA-crypt
	for i, b := range seed {
		salt[i] = alphabet[b&63]
	}
	return prefix + string(salt) + "$" + string(shacrypt.KeySHACrypt(sum, []byte(password), salt, rounds))
}

// hashBcrypt cuts the password where every implementation does.
func hashBcrypt(cost int, password string, seed []byte) (string, error) {
	text := []byte(password)
	key, err := bcrypt.Key(text[:min(len(text), bcryptPassword)], seed, cost)
	if err != nil {
		return "", fmt.Errorf("bcrypt: %w", err)
	}
	return fmt.Sprintf("$2b$%02d$%s%s", cost, bcrypt.Base64Encode(seed), key), nil
}
