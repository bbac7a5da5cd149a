package moto

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Front is an AWS of its own for one test.
type Front struct {
	URL string
	// Options of the test, to be set before the first request.
	Polls int    // questions after which what takes time is done
	Roles string // the role that VM Import may act in; "" is vmimport

	mu        sync.Mutex
	t         *testing.T
	moto      string
	requests  []Request
	faults    []*Fault
	snapshots map[string]*snapshot
	tokens    map[string][]byte // answers by ClientToken
	images    map[string]*image
	tasks     map[string]*task
	lastTask  int
}

// Request is what a client asked for.
type Request struct {
	Service string // ebs, ec2, s3, sts
	Action  string // name of the operation, as in IAM
	Region  string
	Form    url.Values // of ec2 and sts
	Path    string     // with query
	Body    []byte     `json:"-"`
	DryRun  bool
}

// Fault breaks the requests that it matches.
type Fault struct {
	Action string             // SERVICE:ACTION
	When   func(Request) bool // nil is always
	Times  int                // how many requests; 0 is all
	Code   string             // answer with this error
	Status int                // and this HTTP status
	Text   string             // and this message
	Reason string             // and, of EBS, this reason
	Cut    bool               // cut the connection in place of an answer
	After  bool               // but do what is asked first
	Delay  time.Duration      // answer late
	Do     func(Request)      // called before anything else
}

// NewFront starts a front before moto, whose state is reset.
func NewFront(t *testing.T, p *Process) *Front {
	t.Helper()
	resp, err := http.Post(p.URL+"/moto-api/reset", "", nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.log)
	}
	resp.Body.Close()
	f := &Front{t: t, moto: p.URL, snapshots: map[string]*snapshot{}, tokens: map[string][]byte{}, images: map[string]*image{}, tasks: map[string]*task{}}
	server := httptest.NewServer(f)
	f.URL = server.URL
	t.Cleanup(server.Close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("requests:\n%s\nmoto:\n%s", strings.Join(f.Log(), "\n"), p.log)
		}
	})
	return f
}

// Break adds a fault.
func (f *Front) Break(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &fault)
}

// Deny refuses an action as IAM does.
func (f *Front) Deny(action string) {
	code := "UnauthorizedOperation"
	switch {
	case strings.HasPrefix(action, "ebs:"):
		code = "AccessDeniedException"
	case strings.HasPrefix(action, "s3:"):
		code = "AccessDenied"
	}
	f.Break(Fault{Action: action, Code: code, Status: 403, Text: "You are not authorized to perform this operation."})
}

// Requests returns those of an action SERVICE:ACTION, dry runs not included.
func (f *Front) Requests(action string) []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []Request
	for _, r := range f.requests {
		if r.Service+":"+r.Action == action && !r.DryRun {
			list = append(list, r)
		}
	}
	return list
}

// Log lists all requests, one a line.
func (f *Front) Log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, r := range f.requests {
		line := r.Region + " " + r.Service + ":" + r.Action
		if r.DryRun {
			line += " dry"
		}
		lines = append(lines, line)
	}
	return lines
}

// answer is an HTTP answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (f *Front) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	body, err := io.ReadAll(hr.Body)
	if err != nil {
		return // cut by the client
	}
	r := parse(hr, body)
	f.mu.Lock()
	f.requests = append(f.requests, r)
	f.mu.Unlock()
	fault := f.fault(r)
	if fault != nil && fault.Do != nil {
		fault.Do(r)
	}
	if fault != nil && fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-hr.Context().Done():
			return
		}
	}
	if fault != nil && fault.Cut && !fault.After {
		cut(w)
		return
	}
	if fault != nil && fault.Code != "" && !fault.After {
		write(w, fault.failure(r))
		return
	}
	a := f.serve(hr, r)
	switch {
	case fault != nil && fault.After && fault.Cut:
		cut(w)
	case fault != nil && fault.After && fault.Code != "":
		write(w, fault.failure(r))
	default:
		write(w, a)
	}
}

// fault returns the first fault that matches, and counts it.
func (f *Front) fault(r Request) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.faults {
		if x.Action != r.Service+":"+r.Action || x.Times < 0 || x.When != nil && !x.When(r) {
			continue
		}
		if x.Times > 0 {
			if x.Times--; x.Times == 0 {
				x.Times = -1
			}
		}
		return x
	}
	return nil
}

// cut closes the connection without a word.
func cut(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		c.Close()
	}
}

func write(w http.ResponseWriter, a *answer) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// parse finds out what is asked.
func parse(hr *http.Request, body []byte) Request {
	r := Request{Path: hr.URL.RequestURI(), Body: body}
	// Credential=KEY/DATE/REGION/SERVICE/aws4_request
	if _, scope, ok := strings.Cut(hr.Header.Get("Authorization"), "Credential="); ok {
		if part := strings.Split(strings.SplitN(scope, ",", 2)[0], "/"); len(part) == 5 {
			r.Region, r.Service = part[2], part[3]
		}
	}
	path := strings.Split(strings.Trim(hr.URL.Path, "/"), "/")
	switch r.Service {
	case "ec2", "sts":
		r.Form, _ = url.ParseQuery(string(body))
		r.Action = r.Form.Get("Action")
		r.DryRun = r.Form.Get("DryRun") == "true"
	case "ebs":
		switch {
		case hr.Method == "POST" && len(path) == 1:
			r.Action = "StartSnapshot"
		case hr.Method == "POST" && path[1] == "completion":
			r.Action = "CompleteSnapshot"
		case hr.Method == "PUT":
			r.Action = "PutSnapshotBlock"
		case len(path) == 3:
			r.Action = "ListSnapshotBlocks"
		case len(path) == 4:
			r.Action = "GetSnapshotBlock"
		}
	case "s3":
		q := hr.URL.Query()
		switch {
		case hr.Method == "HEAD" && len(path) == 1:
			r.Action = "HeadBucket"
		case hr.Method == "POST" && q.Has("uploads"):
			r.Action = "CreateMultipartUpload"
		case hr.Method == "POST" && q.Has("uploadId"):
			r.Action = "CompleteMultipartUpload"
		case hr.Method == "PUT" && q.Has("uploadId"):
			r.Action = "UploadPart"
		case hr.Method == "DELETE" && q.Has("uploadId"):
			r.Action = "AbortMultipartUpload"
		case hr.Method == "DELETE" && len(path) > 1:
			r.Action = "DeleteObject"
		default:
			r.Action = hr.Method
		}
	}
	return r
}

// serve does what is asked.
func (f *Front) serve(hr *http.Request, r Request) *answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.Service {
	case "ebs":
		return f.serveEBS(hr, r)
	case "ec2":
		return f.serveEC2(hr, r)
	}
	return f.forward(hr, r.Body)
}

// forward hands a request to moto, with another body where one is given.
func (f *Front) forward(hr *http.Request, body []byte) *answer {
	return f.send(hr, hr.Method, hr.URL.RequestURI(), hr.Header, body)
}

// send asks moto something in the name of the caller of hr.
func (f *Front) send(hr *http.Request, method, path string, header http.Header, body []byte) *answer {
	// Without the client's context: what is begun is done.
	req, err := http.NewRequest(method, f.moto+path, bytes.NewReader(body))
	if err != nil {
		return &answer{status: 500, body: []byte(err.Error())}
	}
	req.Header = header.Clone()
	req.Header.Del("Connection")
	req.Host = hr.Host
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return &answer{status: 502, body: []byte(err.Error())}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return &answer{status: 502, body: []byte(err.Error())}
	}
	header = resp.Header.Clone()
	for _, name := range []string{"Connection", "Content-Length", "Date", "Transfer-Encoding"} {
		header.Del(name)
	}
	if method == "HEAD" {
		text = nil
	}
	return &answer{resp.StatusCode, header, text}
}

// ask sends moto a query of EC2.
func (f *Front) ask(hr *http.Request, form url.Values) *answer {
	form.Set("Version", "2016-11-15")
	header := hr.Header.Clone()
	header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	for _, name := range []string{"Content-Length", "X-Amz-Content-Sha256"} {
		header.Del(name)
	}
	return f.send(hr, "POST", "/", header, []byte(form.Encode()))
}

// failure is the answer in place of the right one.
func (x *Fault) failure(r Request) *answer {
	a := failure(r, x.Status, x.Code, x.Text)
	if x.Reason != "" {
		a.body = fmt.Appendf(nil, `{"Message":%q,"Reason":%q}`, x.Text, x.Reason)
	}
	return a
}

// failure is an error in the form of the service.
func failure(r Request, status int, code, text string) *answer {
	if status == 0 {
		status = 400
	}
	a := &answer{status: status, header: http.Header{"Content-Type": {"text/xml"}}}
	switch r.Service {
	case "ebs":
		a.header = http.Header{"Content-Type": {"application/json"}, "X-Amzn-Errortype": {code}}
		a.body = fmt.Appendf(nil, `{"Message":%q}`, text)
	case "s3":
		if r.Action != "HeadBucket" {
			a.body = fmt.Appendf(nil, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, text)
		}
	case "sts":
		a.body = fmt.Appendf(nil, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>", code, text)
	default:
		a.body = fmt.Appendf(nil, "<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>0</RequestID></Response>", code, text)
	}
	return a
}
