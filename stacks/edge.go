package stacks

import (
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	neturl "net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// EdgeTLS is where the certificate of an edge that ends TLS itself comes from. Exactly one of ACME,
// Certificate and Internal is set.
type EdgeTLS struct {
	// Host is the DNS name people type. It is empty if they type an address of the machine.
	Host string

	// ACME asks an authority for certificates, and renews them.
	ACME *ACME

	// Certificate is one in PEM, with those of the authorities between it and the root. The secret
	// of TLSKeyKey is its key.
	Certificate string

	// Internal makes the edge an authority of its own, which people have to trust.
	Internal bool
}

// ACME is an account with a certificate authority.
type ACME struct {
	// Email is told when something is wrong with a certificate.
	Email string
	// Directory is the authority's URL; empty is Let's Encrypt.
	Directory string
}

// EdgeData is the volume of the certificates that the edge has got or made, and of what they were
// got with. It outlives the stack: who asks for new ones too often is refused.
const EdgeData = "edge-data"

// TLSKey is the secret of the edge's certificate.
const TLSKey = "tls-key"

// EdgeTLSPort is where the edge ends TLS, inside its container.
const EdgeTLSPort = 8443

// Names of the ports where the edge ends TLS: of HTTP/1 and 2, and of HTTP/3.
const (
	HTTPS = "https"
	HTTP3 = "http3"
)

// Ports that people need not type.
const (
	httpPort  = 80
	httpsPort = 443
)

// HTTPSURL returns the address of a host, without HTTPS' own port.
func HTTPSURL(host string, port int) string {
	return strings.TrimSuffix(httpsAddress(host, port), ":"+strconv.Itoa(httpsPort))
}

func httpsAddress(host string, port int) string {
	return "https://" + net.JoinHostPort(host, strconv.Itoa(port))
}

const (
	caddyConfig = "/etc/caddy/Caddyfile"

	// caddyCertificates is the folder of the certificate that an edge is given. At
	// caddyCertificatePort of its container's loopback address it hands that to itself.
	caddyCertificates    = "/run/certificate"
	caddyCertificatePort = 8081

	// caddyData is where an edge keeps what outlives it. A volume takes the owner and the mode of
	// the image's directory under it, and of those that all images have only /tmp and this one let
	// another user than root write.
	caddyData = "/var/tmp"
)

// certificateFiles hold the certificate that an edge is given, followed by its key, each the same.
// Whoever writes another one is done with the first before the second.
var certificateFiles = []string{"first.pem", "second.pem"}

// caddyfile is the edge's configuration where TLS ends before it. caddyParts are templates of what
// takes the place of some of its lines, or follows them, where it is otherwise.
var (
	//go:embed edge/Caddyfile
	caddyfile string

	//go:embed edge/parts.tmpl
	caddyParts string

	caddyTemplates = template.Must(template.New("").Parse(caddyParts))
)

// Lines of caddyfile.
const (
	caddyOptions = `	# The configuration cannot be changed at run time, nothing is written to disk, and there are no
	# certificates: TLS ends before the edge.
	admin off
	persist_config off
	auto_https off
`
	caddySite     = ":8080 {\n"
	caddyServers  = "\tservers {\n"
	caddyUpstream = "\t\t\ttransport http {\n"
	caddyPages    = "\t@pages not path /v1/*\n"
	caddyReadBody = "\t\t\tread_body 60s\n"
	caddyURI      = "\t\t\trequest>uri regexp `(cck_)[^&/]*|^(/oidc/[^?]*\\?).*` `$1$2...`\n"
	caddyTooLarge = "\thandle_errors 413 {\n\t\theader -Server\n"
)

// applyEdge changes how the edge is reached.
func (s *Stack) applyEdge(v Settings) error {
	if len(v.Edge.TrustedProxies) > 0 {
		s.TrustedProxies = v.Edge.TrustedProxies
	}
	if v.Edge.Host != "" && v.Edge.OwnTLS == nil {
		s.Route = &Route{
			Host:    v.Edge.Host,
			Gateway: v.Edge.Gateway,
			Ingress: v.Edge.Ingress,
			TLS:     v.Edge.TLS,
		}
	}

	e := s.Service(Edge)
	if e == nil {
		if v.Edge.Port != 0 || v.Edge.Address != "" || v.Edge.OwnTLS != nil {
			return fmt.Errorf("%s:edge: this stack has no %s", Project, Edge)
		}
		return nil
	}

	if v.Edge.Address != "" {
		e.Ports[0].Address = v.Edge.Address
	}
	if v.Edge.Port != 0 {
		e.Ports[0].Host = v.Edge.Port
	}

	if v.Edge.OwnTLS != nil {
		t := *v.Edge.OwnTLS
		t.Host = v.Edge.Host
		s.endTLS(e, t, v.Edge.Port)
	}
	if v.Secrets[TLSKeyKey] && (s.TLS == nil || s.TLS.Certificate == "") {
		return fmt.Errorf("%s:%s: is the key of edge.tls.certificate, which is not set: set that, or "+
			"remove the key with `pulumi config rm -s %s %[1]s:%[2]s`", Project, TLSKeyKey, s.Name)
	}

	return nil
}

// endTLS makes the edge end TLS, at a port of the machine: 443 unless one is set. Beside it HTTP
// leads there, at port 80: for people who type no port, and for the challenges of ACME.
func (s *Stack) endTLS(e *Service, t EdgeTLS, port int) {
	s.TLS = &t
	http := e.Ports[0]
	http.Host = 0
	if port == 0 {
		port = httpsPort
	}
	if port == httpsPort || t.ACME != nil {
		http.Host = httpPort
	}

	https := Port{Name: HTTPS, Container: EdgeTLSPort, Host: port, Address: http.Address}
	http3 := https
	http3.Name, http3.UDP = HTTP3, true
	e.Ports = slices.Concat([]Port{https, http3, http}, e.Ports[1:])

	if t.Certificate != "" {
		s.Secrets = append(s.Secrets, Secret{Name: TLSKey, ConfigKey: TLSKeyKey})
		for _, name := range certificateFiles {
			e.Files = append(e.Files, File{
				Path: path.Join(caddyCertificates, name), Secret: TLSKey, Live: true,
				Content: strings.TrimRight(t.Certificate, "\r\n") + "\n" + SecretToken + "\n",
			})
		}
		return
	}

	s.Volumes = append(s.Volumes, Volume{Name: EdgeData, Size: 64 * MiB, SingleWriter: true})
	e.Mounts = append(e.Mounts, Mount{Kind: MountVolume, Source: EdgeData, Target: caddyData})
	e.Env["XDG_DATA_HOME"] = caddyData
	if t.ACME != nil {
		e.Outside = append(e.Outside, t.ACME.outside())
	}
}

// outside returns where the authority is.
func (a ACME) outside() Outside {
	o := Outside{
		Host:   "acme-v02.api.letsencrypt.org",
		Port:   httpsPort,
		Reason: "the authority that the edge gets its certificates from",
	}
	if u, err := neturl.Parse(a.Directory); err == nil && a.Directory != "" {
		o.Host = u.Hostname()
		if n, err := strconv.Atoi(u.Port()); err == nil {
			o.Port = n
		}
	}

	return o
}

// opened returns the address by which other machines reach the published edge, or "" if none does.
func (s *Stack) opened() string {
	if e := s.Service(Edge); e != nil {
		for _, p := range e.Ports {
			if a, err := netip.ParseAddr(p.Address); p.Host != 0 && err == nil && !a.IsLoopback() {
				return p.Address
			}
		}
	}
	return ""
}

// refuseOpen reports what an edge that other machines reach on an engine lacks.
func (s *Stack) refuseOpen() error {
	address := s.opened()
	if address == "" {
		return nil
	}

	var errs []error
	if s.TLS == nil && len(s.TrustedProxies) == 0 {
		errs = append(errs, fmt.Errorf("%s:edge.tls: is not set, and edge.address %s opens the stack "+
			"to the network, where everyone could read along: set {acme: {email: ...}}, "+
			"{certificate: ...} or {internal: true}; where a gateway ends TLS, name it in "+
			"edge.trustedProxies; or set edge.address to %s", Project, address, loopback))
	}

	return errors.Join(errs...)
}

// caddyText is what the templates of the Caddyfile take.
type caddyText struct {
	*Stack
	HTTPPort, HTTPSPort int

	// CertificateDir has the CertificateFiles, which the edge gets at CertificatePort.
	CertificateDir   string
	CertificateFiles []string
	CertificatePort  int

	// InternalCertificate and InternalAuthorities are files by which the edge and the gate speak TLS.
	InternalCertificate, InternalAuthorities string

	// Published is the machine's port for HTTPS.
	Published int

	// Sites are the addresses that the edge serves at, DefaultName the one among their names for
	// clients that ask for none.
	Sites, DefaultName string

	// RedirectTo is the beginning of the URL that plain HTTP leads to.
	RedirectTo string
}

// renderEdge makes the edge's configuration. It comes last, as that names published ports.
func (s *Stack) renderEdge() error {
	e := s.Service(Edge)
	if e == nil {
		return nil
	}

	i := slices.IndexFunc(e.Files, func(f File) bool { return f.Path == caddyConfig })
	if i < 0 {
		return nil
	}

	var errs []error
	text, data := e.Files[i].Content, s.caddyText(e)
	put := func(part, at, after string) {
		var b strings.Builder
		err := caddyTemplates.ExecuteTemplate(&b, part, data)
		if strings.Count(text, at) != 1 {
			err = fmt.Errorf("%s of the edge: there is no place for the part %s", caddyConfig, part)
		}
		errs = append(errs, err)
		text = strings.Replace(text, at, b.String()+after, 1)
	}

	if s.TLS != nil {
		put("options", caddyOptions, "")
		put("site", caddySite, "")
	}
	if len(s.TrustedProxies) > 0 {
		put("proxies", caddyServers, "")
		put("upstream", caddyUpstream, caddyUpstream)
	}
	if s.InternalTLS() {
		put("internal", caddyUpstream, "")
	}
	if s.Service(Knowledge) != nil {
		put("slow-documents", caddyReadBody, "")
		put("documents", caddyPages, "")
		put("large-documents", caddyTooLarge, "")
		put("private-documents", caddyURI, "")
	}

	e.Files[i].Content = text
	return errors.Join(errs...)
}

func (s *Stack) caddyText(e *Service) caddyText {
	c := caddyText{
		Stack:    s,
		HTTPPort: edgePort, HTTPSPort: EdgeTLSPort,
		CertificateDir: caddyCertificates, CertificateFiles: certificateFiles,
		CertificatePort:     caddyCertificatePort,
		InternalCertificate: CertificateFile, InternalAuthorities: AuthoritiesFile,
		Published: e.Ports[0].Host,
	}
	if s.TLS == nil {
		return c
	}

	var names, sites []string
	switch c.DefaultName = s.TLS.Host; {
	case s.TLS.Certificate != "":
		// It is shown to whoever asks, by whatever name.
		c.Sites, c.DefaultName = httpsAddress("", EdgeTLSPort), ""
	case s.TLS.Internal:
		names = []string{"localhost", loopback, "::1"}
		a, err := netip.ParseAddr(e.Ports[0].Address)
		if err == nil && !a.IsUnspecified() {
			names, c.DefaultName = append(names, a.String()), a.String()
		}
	}

	if s.TLS.Host != "" && s.TLS.Certificate == "" {
		names = append([]string{s.TLS.Host}, names...)
	}

	for i, name := range names {
		if !slices.Contains(names[:i], name) {
			sites = append(sites, httpsAddress(name, EdgeTLSPort))
		}
	}
	if len(sites) > 0 {
		c.Sites = strings.Join(sites, ", ")
	}

	host := s.TLS.Host
	if host == "" {
		host = "{host}"
	}
	c.RedirectTo = HTTPSURL(host, c.Published)
	return c
}

// validateTLS checks the certificate's origin and the trusted networks.
func (s Stack) validateTLS(p *problems) {
	for i, cidr := range s.TrustedProxies {
		if _, err := parseNetwork(cidr); err != nil {
			p.add(fmt.Sprintf("edge.trustedProxies.%d", i), "%v", err)
		}
	}

	t := s.TLS
	if t == nil {
		return
	}

	const at = "edge.tls"
	if s.Service(Edge) == nil {
		p.add(at, "is the edge's, which the stack has not")
	}
	if s.Route != nil && s.Route.TLS != nil {
		p.add(at, "is set, and the route has a certificate as well: one of the two ends TLS")
	}
	if t.Host != "" && !hostRule.MatchString(t.Host) {
		p.add("edge.host",
			"%q is no DNS name: write it like chat.example.com, without a scheme or a port", t.Host)
	}

	set := 0
	for _, is := range []bool{t.ACME != nil, t.Certificate != "", t.Internal} {
		if is {
			set++
		}
	}
	if set != 1 {
		p.add(at, oneCertificate)
		return
	}

	switch {
	case t.ACME != nil:
		t.ACME.validate(p, at+".acme")
		if t.Host == "" {
			p.add("edge.host", "is not set: edge.tls.acme gets a certificate for a name, like "+
				"chat.example.com")
		}
	case t.Certificate != "":
		if err := checkCertificate(t.Certificate, t.Host); err != nil {
			p.add(at+".certificate", "%v", err)
		}
	case t.Host == "":
		if a, err := netip.ParseAddr(s.opened()); err == nil && a.IsUnspecified() {
			p.add("edge.host", "is not set: edge.tls.internal makes a certificate for a name, and "+
				"edge.address %s is none: set edge.host to the name that people type, or "+
				"edge.address to the address", a)
		}
	}
}

func (a ACME) validate(p *problems, at string) {
	m, err := mail.ParseAddress(a.Email)
	if err != nil || m.Address != a.Email || strings.ContainsAny(a.Email, "{}\"` ") {
		p.add(at+".email", "%q is no address: write it like admin@example.com", a.Email)
	}

	u, err := neturl.Parse(a.Directory)
	if a.Directory != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil ||
		strings.ContainsAny(a.Directory, "{}\"` ")) {
		p.add(at+".directory", "%q is no URL: write it like https://ca.example.com/acme/directory",
			a.Directory)
	}
}

// checkCertificate reports what is wrong with the certificate of an edge, in PEM, which is reached
// by the host unless that is empty.
func checkCertificate(text, host string) error {
	var leaf *x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}

		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("holds a %s: this text is no secret; set the key with `pulumi config "+
				"set --secret %s:%s`, and leave it out here", block.Type, Project, TLSKeyKey)
		}

		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("holds a certificate that cannot be read: %w", err)
		}
		if leaf == nil {
			leaf = c
		}
	}

	if leaf == nil {
		return errors.New("holds no certificate in PEM: paste the file that begins with -----BEGIN " +
			"CERTIFICATE-----")
	}

	if host != "" {
		if err := leaf.VerifyHostname(host); err != nil {
			return fmt.Errorf("is not that of edge.host, or does not come first: %w", err)
		}
	}

	return nil
}

// checkKey returns an error unless the value is the key of the edge's certificate, in PEM and
// without a passphrase, as Caddy reads it. It does not show it.
func (s *Stack) checkKey(value string) error {
	refuse := func(todo, format string, args ...any) error {
		return fmt.Errorf("%s:%s: %s: %s `pulumi config set -s %s --secret %[1]s:%[2]s < key.pem`",
			Project, TLSKeyKey, fmt.Sprintf(format, args...), todo, s.Name)
	}

	const setIt = "set it with"
	var last string
	for rest := []byte(value); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}

		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY",
			strings.HasSuffix(block.Headers["Proc-Type"], ",ENCRYPTED"):
			return refuse("remove it with `openssl pkey -in encrypted.pem -out key.pem`, then "+setIt,
				"has a passphrase")
		case block.Type != ecParameters && !strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return refuse(setIt, "holds a %s beside the key", block.Type)
		case last == ecParameters && block.Type != "EC PRIVATE KEY":
			return refuse("leave out "+ecParameters+", and "+setIt,
				"holds %s before a %s, which is no EC PRIVATE KEY", ecParameters, block.Type)
		}
		last = block.Type
	}
	if last == "" {
		return refuse(setIt, "holds no key in PEM, which begins with -----BEGIN PRIVATE KEY-----")
	}

	if _, err := tls.X509KeyPair([]byte(s.TLS.Certificate), []byte(value)); err != nil {
		return refuse("set both, the key with", "is not the key of edge.tls.certificate: %v", err)
	}
	return nil
}

// ecParameters is the PEM block that names the curve of an EC PRIVATE KEY after it.
const ecParameters = "EC PARAMETERS"

// parseNetwork reads the network of a gateway.
func parseNetwork(text string) (netip.Prefix, error) {
	n, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return n, fmt.Errorf("%q is no network: write it like 10.1.2.0/24, or 10.1.2.3/32 for one "+
			"address", text)
	case n != n.Masked():
		return n, fmt.Errorf("%q names an address in a network: write %s for the network, or %s for "+
			"the address", text, n.Masked(), netip.PrefixFrom(n.Addr(), n.Addr().BitLen()))
	case n.Bits() == 0:
		return n, fmt.Errorf("%q is everybody, who could claim any address: name the gateway's "+
			"network", text)
	}
	return n, nil
}
