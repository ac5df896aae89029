package stacks

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
)

func (s *Settings) decodeAddress(v string) error {
	a, err := netip.ParseAddr(v)
	if err != nil {
		return fmt.Errorf("%q is no IP address: write it like 127.0.0.1, or 0.0.0.0 for every "+
			"address of the machine",
			v)
	}

	s.Edge.Address = a.String()
	return nil
}

func (s *Settings) decodeGPU(v string) error {
	if strings.TrimSpace(v) == "{}" {
		return nil
	}

	g := GPU{}
	err := object(fields{
		"count": func(v string) error {
			if v == "all" {
				g.Count = AllGPUs
				return nil
			}
			return integer(&g.Count, 1, 64)(v)
		},
		"devices": func(v string) error {
			if err := json.Unmarshal([]byte(v), &g.Devices); err != nil || len(g.Devices) == 0 {
				return fmt.Errorf("must be a list of indexes or UUIDs as strings, like [\"0\", "+
					"\"1\"], got %q",
					v)
			}
			return nil
		},
		"resource":     text(&g.Resource),
		"runtimeClass": text(&g.RuntimeClass),
		"nodeSelector": labels(&g.NodeSelector),
		"tolerations":  list(decodeToleration(&g.Tolerations)),
	})(v)
	if err != nil {
		return err
	}
	if (g.Count == 0) == (len(g.Devices) == 0) {
		return errors.New("set either count (a number, or all) or devices")
	}

	s.GPU = &g
	return nil
}

func (s *Settings) decodeServices(v string) error {
	return eachKey(v, func(name, value string) error {
		var out ServiceSettings
		known := fields{
			"replicas": func(v string) error {
				n := 0
				if err := integer(&n, 1, 100)(v); err != nil {
					return err
				}
				out.Replicas = &n
				return nil
			},
			"cpu":    quantity(&out.CPU, ParseMilliCPU),
			"memory": quantity(&out.Memory, ParseBytes),
			"pids":   integer(&out.PIDs, 1, 1<<20),
			"autoscale": func(v string) error {
				a := Autoscale{CPU: defaultAutoscaleCPU}
				err := object(fields{
					"min": integer(&a.Min, 1, 1000),
					"max": integer(&a.Max, 1, 1000),
					"cpu": integer(&a.CPU, 1, 100),
				})(v)
				if err == nil && a.Max == 0 {
					err = errors.New("needs max, the greatest number of replicas")
				}

				out.Autoscale = &a
				return err
			},
			serviceSecretsKey: out.decodeSecrets(name),
		}
		maps.Copy(known, out.Pods.fields())
		err := object(known)(value)
		if err == nil && out.Replicas != nil && out.Autoscale != nil {
			err = errors.New("set either replicas or autoscale")
		}
		if err != nil {
			return err
		}

		s.Services[name] = out
		return nil
	})
}

// defaultAutoscaleCPU is the use of processor time that autoscale keeps unless told
// otherwise, in percent.
const defaultAutoscaleCPU = 70

func (s *Settings) decodeEdge(v string) error {
	e := &s.Edge
	err := object(fields{
		"port": integer(&e.Port, 1, 65535), "address": s.decodeAddress, "host": text(&e.Host),
		"gateway": func(v string) error {
			e.Gateway = &Gateway{}
			return object(fields{
				"name":      text(&e.Gateway.Name),
				"namespace": text(&e.Gateway.Namespace),
				"class":     text(&e.Gateway.Class),
			})(v)
		},
		"ingress": func(v string) error {
			e.Ingress = &Ingress{}
			return object(fields{"class": text(&e.Ingress.Class)})(v)
		},
		"tls":            e.decodeTLS,
		"trustedProxies": list(e.decodeProxy),
	})(v)
	if err != nil {
		return err
	}

	var errs []error
	g, i := e.Gateway, e.Ingress
	switch {
	case e.OwnTLS != nil && (g != nil || i != nil):
		errs = append(errs,
			prefixed("tls",
				errors.New("acme, certificate and internal make the edge end TLS, which a gateway or "+
					"an ingress does before it: set secret, issuer or clusterIssuer")))
	case e.OwnTLS != nil:
	case e.TLS != nil && g == nil && i == nil && s.Target == Docker && *e.TLS != (TLS{}):
		errs = append(errs,
			prefixed("tls",
				errors.New("the docker target cannot express it: secret, issuer and clusterIssuer "+
					"are a cluster's; set acme, certificate or internal")))
	case e.Host == "" && (g != nil || i != nil || e.TLS != nil):
		errs = append(errs,
			prefixed("host",
				errors.New("is not set: gateway, ingress and tls belong to a host name, like "+
					"chat.example.com")))
	case e.Host == "":
	case g == nil && i == nil:
		errs = append(errs,
			prefixed("host",
				errors.New("needs what routes it: gateway {class} or {name, namespace}, or "+
					"ingress {class}; on Docker tls {acme}, {certificate} or {internal}")))
	case g != nil && i != nil:
		errs = append(errs,
			prefixed("ingress",
				errors.New("is set beside gateway: the host is routed by one of the two")))
	case g != nil && (g.Class == "") == (g.Name == ""):
		errs = append(errs,
			prefixed("gateway",
				errors.New("set either class, for a Gateway of the stack's own, or name and "+
					"namespace of one that is there")))
	case g != nil && g.Class != "" && g.Namespace != "":
		errs = append(errs,
			prefixed("gateway.namespace",
				errors.New("is that of a Gateway that is there: "+
					"with class, the stack brings its own")))
	case g != nil && g.Name != "" && e.TLS != nil:
		errs = append(errs,
			prefixed("tls",
				errors.New("belongs to the Gateway that is there: set it on its listener, and "+
					"remove it here")))
	case i != nil && i.Class == "":
		errs = append(errs,
			prefixed("ingress.class",
				errors.New("is not set: name the IngressClass of the cluster")))
	}

	if t := e.TLS; t != nil {
		set := 0
		for _, x := range []string{t.Secret, t.Issuer, t.ClusterIssuer} {
			if x != "" {
				set++
			}
		}

		if set != 1 {
			errs = append(errs,
				prefixed("tls", errors.New(oneCertificate)))
		}
	}

	return errors.Join(errs...)
}

const oneCertificate = "set exactly one of acme, certificate, internal; on a cluster of secret, " +
	"issuer, clusterIssuer"

// decodeTLS reads where a certificate comes from: what a cluster keeps (TLS), or what the edge
// itself is given or gets (OwnTLS).
func (e *EdgeSettings) decodeTLS(v string) error {
	var t TLS
	var own EdgeTLS
	internal := new(bool)
	err := object(fields{
		"secret":        text(&t.Secret),
		"issuer":        text(&t.Issuer),
		"clusterIssuer": text(&t.ClusterIssuer),
		"acme": func(v string) error {
			own.ACME = &ACME{}
			return object(fields{
				"email":     text(&own.ACME.Email),
				"directory": text(&own.ACME.Directory),
			})(v)
		},
		"certificate": text(&own.Certificate),
		"key": func(string) error {
			return fmt.Errorf("is a secret: set it with `pulumi config set --secret %s:%s`, and "+
				"remove it here", Project, TLSKeyKey)
		},
		"internal": boolean(&internal),
	})(v)
	own.Internal = *internal
	if err == nil && own == (EdgeTLS{}) {
		e.TLS = &t
		return nil
	}

	e.OwnTLS = &own
	if err == nil && t != (TLS{}) {
		err = errors.New(oneCertificate)
	}
	return err
}

func (e *EdgeSettings) decodeProxy(v string) error {
	e.TrustedProxies = append(e.TrustedProxies, v)
	_, err := parseNetwork(v)
	return err
}

func (s *Settings) decodeVolumes(v string) error {
	return eachKey(v, func(name, value string) error {
		var out VolumeSettings
		err := object(fields{
			"size":   quantity(&out.Size, ParseBytes),
			"class":  text(&out.Class),
			"shared": boolean(&out.Shared),
		})(value)

		s.Volumes[name] = out
		return err
	})
}

func (s *Settings) decodeRedis(v string) error {
	if strings.TrimSpace(v) == "{}" {
		return nil
	}

	r := RedisSettings{}
	err := object(fields{
		"url":    text(&r.URL),
		"fsync":  oneOf(&r.Fsync, "everysec", "always"),
		"master": text(&r.Master),
		"ca":     text(&r.CA),
		"sentinels": list(func(v string) error {
			r.Sentinels = append(r.Sentinels, v)
			return nil
		}),
		"cluster": list(func(v string) error { r.Cluster = append(r.Cluster, v); return nil }),
	})(v)

	external := r.URL != "" || r.Master != "" || r.CA != "" || len(r.Sentinels)+len(r.Cluster) > 0
	if err == nil && r.Fsync != "" && external {
		err = prefixed("fsync",
			errors.New("is for the stack's own Redis: "+
				"one that somebody else runs has its own setting"))
	}

	if err == nil && r.Fsync == "" && r.URL == "" {
		err = prefixed("url",
			errors.New("is not set: write it like "+
				"redis://redis.example.com:6379/0, or rediss:// for TLS"))
	}

	if err == nil {
		err = checkCA(r.CA)
	}

	s.Redis = &r
	return err
}

// checkCA returns an error unless the text holds a certificate in PEM, or is empty.
func checkCA(text string) error {
	if text != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		return prefixed("ca",
			errors.New("holds no certificate in PEM: paste the file that begins with -----BEGIN "+
				"CERTIFICATE-----"))
	}
	return nil
}
