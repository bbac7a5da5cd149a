package aws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"imgbuild/fault"
)

// Codes of errors that are told apart, as the services spell them.
var (
	deniedCodes      = []string{"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "Forbidden", "AllAccessDisabled"}
	expiredCodes     = []string{"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
	credentialsCodes = []string{"InvalidClientTokenId", "AuthFailure", "SignatureDoesNotMatch", "UnrecognizedClientException",
		"InvalidAccessKeyId", "InvalidToken", "InvalidSignatureException", "IncompleteSignature", "MissingAuthenticationToken"}
	quotaCodes = []string{"ServiceQuotaExceededException", "SnapshotLimitExceeded", "PendingSnapshotLimitExceeded", "ConcurrentSnapshotLimitExceeded",
		"ResourceCountExceeded", "ResourceLimitExceeded", "MaxAMICountExceeded", "AMIQuotaExceeded", "VolumeSizeExceeded", "MaxConfigLimitExceededException"}
	blockCodes = []string{"ValidationException", "ConflictException"}
	// Reasons of EBS that are about the key, whatever the code says.
	keyReasons = []string{"DEPENDENCY_ACCESS_DENIED", "DEPENDENCY_RESOURCE_NOT_FOUND", "GRANT_NOT_FOUND", "INVALID_CUSTOMER_KEY", "INVALID_GRANT_TOKEN"}
)

// codeConcurrent is the error code of too many requests of EBS at one time, which
// the SDK does not send again by itself.
const codeConcurrent = "ConcurrentLimitExceededException"

// passes tells whether EBS refused a block for what is over in a moment: it came too
// slowly, or an earlier attempt is still being written.
func passes(err error) bool {
	return isCode(err, codeConcurrent) || contains([]string{"WRITE_REQUEST_TIMEOUT", "CONFLICTING_BLOCK_UPDATE"}, reason(err))
}

// explain returns err as one line with what AWS says and what can be done. It
// keeps an error that is explained already, and one of a context that ended.
func (u *Uploader) explain(what string, err error) error {
	if err == nil || errors.As(err, new(*fault.Error)) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", what, context.Canceled)
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return u.explainLocal(what, err)
	}
	code, message := api.ErrorCode(), api.ErrorMessage()
	message, _, _ = strings.Cut(message, " Encoded authorization failure message")
	text := code
	if message != "" && message != code {
		text += ": " + strings.TrimSuffix(message, ".")
	}
	why := reason(err)
	if why != "" {
		text += " (" + why + ")"
	}
	text += attempts(err)
	hint := ""
	switch {
	case contains(keyReasons, why):
		hint = u.kmsHint()
	case slices.Contains(deniedCodes, code):
		hint = fmt.Sprintf("allow %s to %s", action(err, message), orElse(u.caller, "the caller"))
	case slices.Contains(expiredCodes, code):
		hint = "the credentials have expired: sign in again, or get a new AWS_SESSION_TOKEN"
	case slices.Contains(credentialsCodes, code):
		hint = "check the access key, the secret and the session token, and the clock of this machine"
	case isThrottle(code), code == codeConcurrent:
		hint = "try again later with fewer uploads at a time, or have the account's request quota raised"
	case slices.Contains(quotaCodes, code):
		hint = "remove what is not needed any more, or have the account's quota raised"
	case code == codeNameTaken:
		hint = "choose another name with --aws-ami-name"
	case strings.HasPrefix(code, "KMS") || strings.Contains(message, "KMS"):
		hint = u.kmsHint()
	case strings.Contains(message, "role "):
		hint = roleHint
	case slices.Contains(blockCodes, code):
		hint = "start again; it is worth a report if it happens again"
	case lost(err):
		hint = "try again later"
	}
	return fault.New(fault.Upload, fmt.Errorf("%s: %s%w", what, text, hidden{err}), hint)
}

func (u *Uploader) kmsHint() string {
	return "see whether the KMS key exists in the region, is enabled, and may be used by " + orElse(u.caller, "the caller")
}

// explainLocal is for errors that did not come from AWS: there are no
// credentials, or nobody answers.
func (u *Uploader) explainLocal(what string, err error) error {
	text, hint, all := innermost(err), "", err.Error()
	var send *smithyhttp.RequestSendError
	var answer *smithyhttp.ResponseError
	var timeout interface{ Timeout() bool }
	switch {
	case strings.Contains(all, "get credentials") || strings.Contains(all, "refresh cached credentials"):
		hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with --aws-profile or AWS_PROFILE"
		switch {
		case strings.Contains(all, "SSO"):
			hint = "sign in with aws sso login"
		case strings.Contains(all, "credential_process"):
			text = "credential_process: " + text
			hint = "see what the credential_process of the profile says by itself"
		}
		text = "no AWS credentials: " + text
	case errors.As(err, &send), errors.As(err, &timeout) && timeout.Timeout():
		if errors.As(err, &send) {
			text = innermost(send.Err)
		}
		hint = "check the network and the proxy settings, and try again"
	case errors.As(err, &answer):
		text = fmt.Sprintf("HTTP status %d", answer.HTTPStatusCode())
		hint = "try again"
		if answer.HTTPStatusCode() == 403 {
			hint = fmt.Sprintf("allow %s to %s", action(err, ""), orElse(u.caller, "the caller"))
		}
	}
	return fault.New(fault.Upload, fmt.Errorf("%s: %s%s%w", what, text, attempts(err), hidden{err}), hint)
}

// hidden keeps an error in the chain without its text: that of the SDK repeats
// the request's host and ids.
type hidden struct{ err error }

func (h hidden) Error() string { return "" }
func (h hidden) Unwrap() error { return h.err }

// attempts tells how often a request was sent that was sent more than once.
func attempts(err error) string {
	var m *retry.MaxAttemptsError
	if errors.As(err, &m) && m.Attempt > 1 {
		return fmt.Sprintf(" (after %d attempts)", m.Attempt)
	}
	return ""
}

// innermost returns the text of the cause of all causes.
func innermost(err error) string {
	for {
		next := errors.Unwrap(err)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return "the connection was cut"
		}
		if next == nil {
			return err.Error()
		}
		// These say where to, and which file.
		switch err.(type) {
		case *net.OpError, *fs.PathError:
			return err.Error()
		}
		err = next
	}
}

var actionForm = regexp.MustCompile(`perform:? (?:the )?([a-z0-9-]+:[A-Za-z]+)`)

// action returns the IAM action that was denied: the one that AWS names, else
// that of the request.
func action(err error, message string) string {
	if m := actionForm.FindStringSubmatch(message); m != nil {
		return m[1]
	}
	var op *smithy.OperationError
	if !errors.As(err, &op) {
		return "the request"
	}
	service, name := strings.ToLower(op.Service()), op.Operation()
	if service == "s3" {
		switch name {
		case "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload":
			name = "PutObject"
		case "HeadBucket":
			name = "ListBucket"
		}
	}
	return service + ":" + name
}

// reason returns the word by which EBS tells apart errors of one code, whose message
// may be empty; "" of other errors.
func reason(err error) string {
	var denied *ebstypes.AccessDeniedException
	var missing *ebstypes.ResourceNotFoundException
	var invalid *ebstypes.ValidationException
	switch {
	case errors.As(err, &denied):
		return string(denied.Reason)
	case errors.As(err, &missing):
		return string(missing.Reason)
	case errors.As(err, &invalid):
		return string(invalid.Reason)
	}
	return ""
}

func isThrottle(code string) bool {
	_, ok := retry.DefaultThrottleErrorCodes[code]
	return ok
}

func isCode(err error, codes ...string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode())
}

func isDenied(err error) bool { return isCode(err, deniedCodes...) }

func isCredentials(err error) bool {
	return isCode(err, expiredCodes...) || isCode(err, credentialsCodes...)
}

func isNoHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

func hostError(err error) error {
	var dns *net.DNSError
	errors.As(err, &dns)
	return dns
}

// ignore returns nil for the codes, which say that what is to be removed is not
// there.
func ignore(err error, codes ...string) error {
	if isCode(err, codes...) {
		return nil
	}
	return err
}

// lost tells whether a request may have done its work although it failed: no
// answer arrived, or one that says that the service broke down.
func lost(err error) bool {
	if err == nil {
		return false
	}
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() != 0 {
		return answer.HTTPStatusCode() >= 500
	}
	return !errors.As(err, new(smithy.APIError))
}
