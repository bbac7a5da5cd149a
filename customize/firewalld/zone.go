package firewalld

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxZone bounds a zone file, and maxDepth the elements in each other.
const (
	maxZone  = 4 << 20
	maxDepth = 8
)

// element is an element of a zone file with what is in it.
type element struct {
	name     string
	attrs    []xml.Attr
	children []*element
	text     strings.Builder
}

// attr returns the value of an attribute, "" where there is none.
func (e *element) attr(name string) string {
	for _, a := range e.attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// zone is a zone file as firewalld knows it: its writer puts the settings into an
// order of its own.
type zone struct {
	attrs               []xml.Attr // version, target, ingress-priority, egress-priority
	short, description  string
	services            []string
	ports               []port
	protocols           []string
	icmpBlocks          []string
	masquerade          bool
	forwardPorts        []*element
	sourcePorts         []port
	rules               []*element
	interfaces, sources []string
	icmpBlockInversion  bool
	forward             bool
}

// parseZone reads a zone file. Names of services in ports are looked up in known.
func parseZone(text []byte, known services) (*zone, error) {
	root, err := parseXML(text)
	if err != nil {
		return nil, err
	}
	if root.name != "zone" {
		return nil, fmt.Errorf("the element is %s and not zone", root.name)
	}
	z := &zone{}
	for _, name := range []string{"version", "target", "ingress-priority", "egress-priority"} {
		if v := root.attr(name); v != "" && (name != "target" || v != "default") && (!strings.HasSuffix(name, "priority") || v != "0") {
			z.attrs = append(z.attrs, xml.Attr{Name: xml.Name{Local: name}, Value: v})
		}
	}
	for _, e := range root.children {
		if err := z.add(e, known); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return z, nil
}

// add puts an element where it belongs.
func (z *zone) add(e *element, known services) error {
	unique := func(list *[]string, value string) error {
		if value == "" {
			return errors.New("an attribute is missing")
		}
		if !slices.Contains(*list, value) {
			*list = append(*list, value)
		}
		return nil
	}
	var err error
	switch e.name {
	case "short":
		z.short = strings.ReplaceAll(e.text.String(), "\n", " ")
	case "description":
		z.description = strings.ReplaceAll(e.text.String(), "\n", " ")
	case "service":
		return unique(&z.services, e.attr("name"))
	case "protocol":
		return unique(&z.protocols, e.attr("value"))
	case "icmp-block":
		return unique(&z.icmpBlocks, e.attr("name"))
	case "interface":
		return unique(&z.interfaces, e.attr("name"))
	case "source":
		if name := e.attr("ipset"); name != "" {
			return unique(&z.sources, "ipset:"+name)
		}
		return unique(&z.sources, e.attr("address"))
	case "port":
		z.ports, err = known.coalesce(z.ports, port{e.attr("port"), e.attr("protocol")})
	case "source-port":
		z.sourcePorts, err = known.coalesce(z.sourcePorts, port{e.attr("port"), e.attr("protocol")})
	case "masquerade":
		z.masquerade = true
	case "forward":
		z.forward = true
	case "icmp-block-inversion":
		z.icmpBlockInversion = true
	case "forward-port":
		z.forwardPorts = append(z.forwardPorts, e)
	case "rule":
		for _, c := range e.children {
			if ruleRank(c.name) < 0 {
				return fmt.Errorf("unexpected element %s", c.name)
			}
		}
		slices.SortStableFunc(e.children, func(a, b *element) int { return ruleRank(a.name) - ruleRank(b.name) })
		z.rules = append(z.rules, e)
	default:
		return errors.New("unexpected element")
	}
	return err
}

// ruleRank is the place of an element in a rule, -1 where it has none.
func ruleRank(name string) int {
	switch name {
	case "source":
		return 0
	case "destination":
		return 1
	case "service", "port", "protocol", "tcp-mss-clamp", "masquerade", "icmp-block", "icmp-type", "forward-port", "source-port":
		return 2
	case "log", "nflog":
		return 3
	case "audit":
		return 4
	case "accept", "reject", "drop", "mark":
		return 5
	}
	return -1
}

// parseXML reads one element with what is in it.
func parseXML(text []byte) (*element, error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	var root *element
	var open []*element
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			if root == nil || len(open) > 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return root, nil
		}
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Space != "" || len(open) == maxDepth || root != nil && len(open) == 0 {
				return nil, fmt.Errorf("unexpected element %s", t.Name.Local)
			}
			e := &element{name: t.Name.Local, attrs: slices.Clone(t.Attr)}
			if root == nil {
				root = e
			} else {
				up := open[len(open)-1]
				up.children = append(up.children, e)
			}
			open = append(open, e)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1].name != t.Name.Local || t.Name.Space != "" {
				return nil, fmt.Errorf("unexpected end of %s", t.Name.Local)
			}
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				open[len(open)-1].text.Write(t)
			}
		case xml.Directive:
			return nil, errors.New("document type definitions are not supported")
		}
	}
}

// encode returns the zone file as firewalld's zone_writer writes it. Rules stay in
// their order, which firewalld sorts.
func (z *zone) encode() []byte {
	w := &writer{}
	w.WriteString("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n")
	w.start("zone", z.attrs)
	w.WriteString("\n")
	for _, t := range []struct{ name, text string }{{"short", z.short}, {"description", z.description}} {
		if t.text != "" {
			w.WriteString("  <" + t.name + ">" + escapeText.Replace(t.text) + "</" + t.name + ">\n")
		}
	}
	w.list("service", "name", z.services)
	w.ports("port", z.ports)
	w.list("protocol", "value", z.protocols)
	w.list("icmp-block", "name", z.icmpBlocks)
	w.flag("masquerade", z.masquerade)
	for _, e := range z.forwardPorts {
		w.simple("  ", "forward-port", e.pick("port", "protocol", "to-port", "to-addr"))
	}
	w.ports("source-port", z.sourcePorts)
	for _, r := range z.rules {
		w.rule(r)
	}
	w.list("interface", "name", z.interfaces)
	for _, s := range z.sources {
		if name, ok := strings.CutPrefix(s, "ipset:"); ok {
			w.simple("  ", "source", attrs("ipset", name))
		} else {
			w.simple("  ", "source", attrs("address", s))
		}
	}
	w.flag("icmp-block-inversion", z.icmpBlockInversion)
	w.flag("forward", z.forward)
	w.WriteString("</zone>\n")
	return w.Bytes()
}

// writer writes XML as Python's saxutils with firewalld's white space.
type writer struct{ bytes.Buffer }

var (
	escapeText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	escapeAttr = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\n", "&#10;", "\r", "&#13;", "\t", "&#9;")
)

// quote is saxutils.quoteattr.
func quote(s string) string {
	s = escapeAttr.Replace(s)
	switch {
	case !strings.Contains(s, `"`):
		return `"` + s + `"`
	case !strings.Contains(s, "'"):
		return "'" + s + "'"
	}
	return `"` + strings.ReplaceAll(s, `"`, "&quot;") + `"`
}

// attrs returns attributes of names and values.
func attrs(pairs ...string) (list []xml.Attr) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, xml.Attr{Name: xml.Name{Local: pairs[i]}, Value: pairs[i+1]})
	}
	return list
}

// pick returns those of the attributes that the element has.
func (e *element) pick(names ...string) (list []xml.Attr) {
	for _, n := range names {
		if v := e.attr(n); v != "" {
			list = append(list, attrs(n, v)...)
		}
	}
	return list
}

func (w *writer) open(name string, list []xml.Attr) {
	w.WriteString("<" + name)
	for _, a := range list {
		w.WriteString(" " + a.Name.Local + "=" + quote(a.Value))
	}
}

func (w *writer) start(name string, list []xml.Attr) {
	w.open(name, list)
	w.WriteString(">")
}

func (w *writer) simple(indent, name string, list []xml.Attr) {
	w.WriteString(indent)
	w.open(name, list)
	w.WriteString("/>\n")
}

func (w *writer) list(name, attr string, values []string) {
	for _, v := range values {
		w.simple("  ", name, attrs(attr, v))
	}
}

func (w *writer) ports(name string, list []port) {
	for _, p := range list {
		w.simple("  ", name, attrs("port", p.ports, "protocol", p.protocol))
	}
}

func (w *writer) flag(name string, set bool) {
	if set {
		w.simple("  ", name, nil)
	}
}

// rule writes a rich rule.
func (w *writer) rule(r *element) {
	list := r.pick("family")
	if p := r.attr("priority"); p != "0" {
		list = append(list, r.pick("priority")...)
	}
	w.WriteString("  ")
	w.start("rule", list)
	w.WriteString("\n")
	for _, e := range r.children {
		list := e.pick("name", "port", "protocol", "value", "to-port", "to-addr", "address", "mac", "ipset", "group", "prefix", "level", "queue-size", "type", "set")
		if v := strings.ToLower(e.attr("invert")); v == "yes" || v == "true" {
			list = append(list, attrs("invert", "True")...)
		}
		if len(e.children) == 0 {
			w.simple("    ", e.name, list)
			continue
		}
		w.WriteString("    ")
		w.start(e.name, list)
		w.WriteString("\n")
		for _, limit := range e.children {
			w.simple("      ", limit.name, limit.pick("value", "burst"))
		}
		w.WriteString("    </" + e.name + ">\n")
	}
	w.WriteString("  </rule>\n")
}
