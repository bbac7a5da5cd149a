package moto

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// image is what moto does not keep of an AMI.
type image struct {
	region, name string
	form         url.Values // of RegisterImage; nil for a copy
	snapshot     string     // that it is made of; "" is moto's own
	own          string     // that moto made, which is not what it is made of
	polls        int        // questions until it is seen to be available
	failed       string
	deprecated   string
	disabled     bool
}

// task is an import of VM Import.
type task struct {
	id, region, bucket, key string
	polls                   int
	status, message         string
	snapshot                string
	format, description     string
}

// FailImage lets AMIs of a region end in an error.
func (f *Front) FailImage(region, why string) {
	f.Break(Fault{Action: "ec2:DescribeImages", When: func(r Request) bool {
		if r.Region == region {
			for _, i := range f.images {
				if i.region == region {
					i.failed = why
				}
			}
		}
		return false
	}})
}

// DisableImages disables all AMIs.
func (f *Front) DisableImages() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.images {
		i.disabled = true
	}
}

// FailImport lets import tasks end without a snapshot.
func (f *Front) FailImport(message string) {
	f.Break(Fault{Action: "ec2:DescribeImportSnapshotTasks", When: func(Request) bool {
		for _, t := range f.tasks {
			t.status, t.message = "deleting", message
		}
		return false
	}})
}

func (f *Front) serveEC2(hr *http.Request, r Request) *answer {
	if !r.DryRun {
		switch r.Action {
		case "RegisterImage":
			return f.registerImage(hr, r)
		case "CopyImage":
			return f.copyImage(hr, r)
		case "DescribeImages":
			return f.describeImages(hr, r)
		case "DescribeSnapshots":
			return f.describeSnapshots(hr, r)
		case "DeleteSnapshot":
			return f.deleteSnapshot(hr, r)
		case "DeregisterImage":
			a := f.forward(hr, r.Body)
			if i := f.images[r.Form.Get("ImageId")]; i != nil && a.status == 200 {
				delete(f.images, r.Form.Get("ImageId"))
				if i.own != "" {
					f.ask(hr, url.Values{"Action": {"DeleteSnapshot"}, "SnapshotId": {i.own}})
				}
			}
			return a
		}
	}
	switch r.Action {
	case "ImportSnapshot", "DescribeImportSnapshotTasks", "CancelImportTask", "EnableImageDeprecation":
		if r.DryRun {
			return failure(r, 412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
		}
	}
	switch r.Action {
	case "DescribeRegions":
		// moto answers in regions that it knows, and breaks in others.
		hr = hr.Clone(hr.Context())
		hr.Header.Set("Authorization", strings.Replace(hr.Header.Get("Authorization"), "/"+r.Region+"/", "/us-east-1/", 1))
	case "ImportSnapshot":
		return f.importSnapshot(r)
	case "DescribeImportSnapshotTasks":
		return f.describeImport(hr, r)
	case "CancelImportTask":
		return f.cancelImport(r)
	case "EnableImageDeprecation":
		i := f.images[r.Form.Get("ImageId")]
		if i == nil {
			return failure(r, 400, "InvalidAMIID.NotFound", "The image does not exist")
		}
		i.deprecated = r.Form.Get("DeprecateAt")
		return success(r, "<return>true</return>")
	}
	return f.forward(hr, r.Body)
}

// success is an answer of EC2.
func success(r Request, content string) *answer {
	return &answer{200, http.Header{"Content-Type": {"text/xml"}},
		fmt.Appendf(nil, `<%sResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>0</requestId>%s</%[1]sResponse>`, r.Action, content)}
}

func (f *Front) taken(region, name string) bool {
	for _, i := range f.images {
		if i.region == region && i.name == name {
			return true
		}
	}
	return false
}

func (f *Front) registerImage(hr *http.Request, r Request) *answer {
	name, id := r.Form.Get("Name"), r.Form.Get("BlockDeviceMapping.1.Ebs.SnapshotId")
	if f.taken(r.Region, name) {
		return failure(r, 400, "InvalidAMIName.Duplicate", "AMI name "+name+" is already in use by AMI")
	}
	if s := f.snapshots[id]; s == nil {
		return failure(r, 400, "InvalidSnapshot.NotFound", "The snapshot '"+id+"' does not exist.")
	} else if s.pending || s.polls > 0 {
		return failure(r, 400, "InvalidSnapshot.Pending", "The snapshot '"+id+"' is pending.")
	}
	a := f.forward(hr, r.Body)
	made := text(a.body, "imageId")
	if made == "" {
		return a
	}
	own := f.ask(hr, url.Values{"Action": {"DescribeImages"}, "ImageId.1": {made}})
	f.images[made] = &image{region: r.Region, name: name, form: r.Form, snapshot: id, own: text(own.body, "snapshotId"), polls: f.Polls}
	f.tag(hr, r, "image", made)
	return a
}

func (f *Front) copyImage(hr *http.Request, r Request) *answer {
	token := r.Form.Get("ClientToken")
	if old, ok := f.tokens[token]; ok && token != "" {
		return &answer{200, http.Header{"Content-Type": {"text/xml"}}, old}
	}
	source := f.images[r.Form.Get("SourceImageId")]
	if source == nil || source.region != r.Form.Get("SourceRegion") {
		return failure(r, 400, "InvalidAMIID.NotFound", "The image does not exist")
	}
	if source.polls > 0 {
		return failure(r, 400, "InvalidAMIID.Unavailable", "The image is pending")
	}
	if f.taken(r.Region, r.Form.Get("Name")) {
		return failure(r, 400, "InvalidAMIName.Duplicate", "AMI name is already in use by AMI")
	}
	a := f.forward(hr, r.Body)
	made := text(a.body, "imageId")
	if made == "" {
		return a
	}
	f.tokens[token] = a.body
	f.images[made] = &image{region: r.Region, name: r.Form.Get("Name"), polls: f.Polls}
	f.tag(hr, r, "image", made)
	own := f.ask(hr, url.Values{"Action": {"DescribeImages"}, "ImageId.1": {made}})
	f.tag(hr, r, "snapshot", text(own.body, "snapshotId"))
	return a
}

// tag sets the tags that a request has for a kind of resource.
func (f *Front) tag(hr *http.Request, r Request, kind, id string) {
	for n := 1; r.Form.Get(fmt.Sprintf("TagSpecification.%d.ResourceType", n)) != ""; n++ {
		prefix := fmt.Sprintf("TagSpecification.%d.", n)
		if r.Form.Get(prefix+"ResourceType") != kind {
			continue
		}
		form := url.Values{"Action": {"CreateTags"}, "ResourceId.1": {id}}
		for k := 1; r.Form.Get(fmt.Sprintf("%sTag.%d.Key", prefix, k)) != ""; k++ {
			form.Set(fmt.Sprintf("Tag.%d.Key", k), r.Form.Get(fmt.Sprintf("%sTag.%d.Key", prefix, k)))
			form.Set(fmt.Sprintf("Tag.%d.Value", k), r.Form.Get(fmt.Sprintf("%sTag.%d.Value", prefix, k)))
		}
		f.ask(hr, form)
	}
}

// describeImages adds what moto does not know.
func (f *Front) describeImages(hr *http.Request, r Request) *answer {
	a := f.forward(hr, r.Body)
	return edit(a, "imagesSet", func(item *node) {
		i := f.images[item.text("imageId")]
		if i == nil {
			return
		}
		if i.disabled && r.Form.Get("IncludeDisabled") != "true" {
			item.XMLName = name("shadow")
		}
		switch {
		case i.failed != "":
			item.set("imageState", "failed")
			item.add(&node{XMLName: name("stateReason"), Nodes: []*node{leaf("message", i.failed)}})
		case i.polls > 0:
			i.polls--
			item.set("imageState", "pending")
		}
		if i.deprecated != "" {
			item.set("deprecationTime", i.deprecated)
		}
		if i.form == nil {
			return
		}
		for _, p := range [][2]string{{"bootMode", "BootMode"}, {"architecture", "Architecture"}, {"rootDeviceName", "RootDeviceName"},
			{"enaSupport", "EnaSupport"}, {"imdsSupport", "ImdsSupport"}, {"tpmSupport", "TpmSupport"},
			{"virtualizationType", "VirtualizationType"}, {"sriovNetSupport", "SriovNetSupport"}} {
			item.drop(p[0])
			if v := i.form.Get(p[1]); v != "" {
				item.add(leaf(p[0], v))
			}
		}
		item.drop("blockDeviceMapping")
		item.add(&node{XMLName: name("blockDeviceMapping"), Nodes: []*node{{XMLName: name("item"), Nodes: []*node{
			leaf("deviceName", i.form.Get("BlockDeviceMapping.1.DeviceName")),
			{XMLName: name("ebs"), Nodes: []*node{
				leaf("snapshotId", i.snapshot), leaf("volumeType", i.form.Get("BlockDeviceMapping.1.Ebs.VolumeType")),
				leaf("deleteOnTermination", i.form.Get("BlockDeviceMapping.1.Ebs.DeleteOnTermination")),
			}},
		}}}})
	})
}

func (f *Front) describeSnapshots(hr *http.Request, r Request) *answer {
	shadows := map[string]bool{}
	for _, i := range f.images {
		shadows[i.own] = true
	}
	return edit(f.forward(hr, r.Body), "snapshotSet", func(item *node) {
		if id := item.text("snapshotId"); shadows[id] {
			item.XMLName = name("shadow")
			return
		}
		s := f.snapshots[item.text("snapshotId")]
		if s != nil && s.key != "" {
			item.set("encrypted", "true")
			item.set("kmsKeyId", s.key)
		}
		switch {
		case s == nil:
		case s.pending:
			item.set("status", "pending")
		case s.failed != "":
			item.set("status", "error")
			item.set("statusMessage", s.failed)
		case s.polls > 0:
			s.polls--
			item.set("status", "pending")
		}
	})
}

func (f *Front) deleteSnapshot(hr *http.Request, r Request) *answer {
	id := r.Form.Get("SnapshotId")
	for _, i := range f.images {
		if i.snapshot == id {
			return failure(r, 400, "InvalidSnapshot.InUse", "The snapshot "+id+" is currently in use by an AMI")
		}
	}
	a := f.forward(hr, r.Body)
	if a.status == 200 {
		delete(f.snapshots, id)
	}
	return a
}

func (f *Front) importSnapshot(r Request) *answer {
	token := r.Form.Get("ClientToken")
	for _, t := range f.tasks {
		if t.key+token == r.Form.Get("DiskContainer.UserBucket.S3Key")+token && token != "" && f.tokens[token] != nil {
			return success(r, "<importTaskId>"+t.id+"</importTaskId>")
		}
	}
	role := f.Roles
	if role == "" {
		role = "vmimport"
	}
	if got := r.Form.Get("RoleName"); got != role && !(got == "" && role == "vmimport") {
		return failure(r, 400, "InvalidParameter", "The service role "+got+" provided does not exist or does not have sufficient permissions")
	}
	f.lastTask++
	t := &task{
		id: fmt.Sprintf("import-snap-%017x", f.lastTask), region: r.Region, polls: f.Polls + 1, status: "active", message: "pending",
		bucket: r.Form.Get("DiskContainer.UserBucket.S3Bucket"), key: r.Form.Get("DiskContainer.UserBucket.S3Key"),
		format: r.Form.Get("DiskContainer.Format"), description: r.Form.Get("Description"),
	}
	f.tasks[t.id] = t
	f.tokens[token] = []byte{1}
	return success(r, "<importTaskId>"+t.id+"</importTaskId>")
}

func (f *Front) describeImport(hr *http.Request, r Request) *answer {
	t := f.tasks[r.Form.Get("ImportTaskId.1")]
	if t == nil {
		return failure(r, 400, "InvalidConversionTaskId.Malformed", "The task does not exist")
	}
	progress := ""
	if t.status == "active" {
		if t.polls--; t.polls > 0 {
			t.message, progress = "downloading/converting", strconv.Itoa(100/(t.polls+1))
		} else if a := f.finishImport(hr, r, t); a != nil {
			return a
		}
	}
	content := fmt.Sprintf("<importSnapshotTaskSet><item><importTaskId>%s</importTaskId><snapshotTaskDetail><format>%s</format><status>%s</status><statusMessage>%s</statusMessage>",
		t.id, t.format, t.status, t.message)
	if progress != "" {
		content += "<progress>" + progress + "</progress>"
	}
	if t.snapshot != "" {
		content += "<snapshotId>" + t.snapshot + "</snapshotId>"
	}
	return success(r, content+"</snapshotTaskDetail></item></importSnapshotTaskSet>")
}

// finishImport makes the snapshot of the object.
func (f *Front) finishImport(hr *http.Request, r Request, t *task) *answer {
	header := hr.Header.Clone()
	header.Set("Authorization", strings.Replace(header.Get("Authorization"), "/ec2/", "/s3/", 1))
	for _, name := range []string{"Content-Length", "Content-Type", "X-Amz-Content-Sha256"} {
		header.Del(name)
	}
	object := f.send(hr, "GET", "/"+t.bucket+"/"+url.PathEscape(t.key), header, nil)
	if object.status != 200 || strings.ToLower(t.format) != "raw" {
		t.status, t.message = "deleting", fmt.Sprintf("ClientError: Disk validation failed [%d]", object.status)
		return nil
	}
	id, failed := f.makeSnapshot(hr, r, object.body)
	if failed != nil {
		return failed
	}
	t.status, t.message, t.snapshot = "completed", "", id
	return nil
}

func (f *Front) cancelImport(r Request) *answer {
	t := f.tasks[r.Form.Get("ImportTaskId")]
	if t == nil {
		return failure(r, 400, "InvalidConversionTaskId.Malformed", "The task does not exist")
	}
	if t.status == "completed" {
		return failure(r, 400, "IncorrectState", "The task is completed")
	}
	t.status = "deleted"
	return success(r, "<importTaskId>"+t.id+"</importTaskId><state>deleted</state>")
}

// Tasks lists import tasks that are under way.
func (f *Front) Tasks() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, t := range f.tasks {
		if t.status == "active" {
			list = append(list, t.id)
		}
	}
	return list
}

// node is an element of an answer in XML.
type node struct {
	XMLName xml.Name
	Text    string  `xml:",chardata"`
	Nodes   []*node `xml:",any"`
}

func name(s string) xml.Name { return xml.Name{Local: s} }

func leaf(n, text string) *node { return &node{XMLName: name(n), Text: text} }

func (n *node) find(s string) *node {
	for _, c := range n.Nodes {
		if c.XMLName.Local == s {
			return c
		}
	}
	return nil
}

func (n *node) text(s string) string {
	if c := n.find(s); c != nil {
		return c.Text
	}
	return ""
}

func (n *node) add(c *node) { n.Nodes = append(n.Nodes, c) }

func (n *node) drop(s string) {
	kept := n.Nodes[:0]
	for _, c := range n.Nodes {
		if c.XMLName.Local != s {
			kept = append(kept, c)
		}
	}
	n.Nodes = kept
}

func (n *node) set(s, text string) {
	n.drop(s)
	n.add(leaf(s, text))
}

// plain takes the namespaces away, which would be written at every element.
func (n *node) plain() {
	n.XMLName.Space = ""
	for _, c := range n.Nodes {
		c.plain()
	}
}

// edit changes the items of a list in an answer.
func edit(a *answer, list string, change func(item *node)) *answer {
	var root node
	if a.status != 200 || xml.Unmarshal(a.body, &root) != nil {
		return a
	}
	root.plain()
	if set := root.find(list); set != nil {
		for _, item := range set.Nodes {
			change(item)
		}
		set.drop("shadow")
	}
	body, err := xml.Marshal(&root)
	if err != nil {
		return a
	}
	return &answer{a.status, a.header, body}
}

// text returns the content of the first element with the name.
func text(body []byte, element string) string {
	_, rest, ok := strings.Cut(string(body), "<"+element+">")
	if !ok {
		return ""
	}
	value, _, _ := strings.Cut(rest, "</")
	return value
}
