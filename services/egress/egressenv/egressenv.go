// Package egressenv is the environment of the egress proxy.
package egressenv

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// Config is the environment of the egress proxy.
type Config struct {
	contract.Common

	// Destinations are what may be reached, host:port each, and nothing else.
	Destinations []string `env:"DESTINATIONS,required,notEmpty"`

	// Private lets the names among them have addresses of private networks.
	Private bool `env:"PRIVATE_ADDRESSES,required"`
}

// Validate implements contract.Environment.
func (c *Config) Validate() error {
	errs := []error{c.Common.Validate()}
	for _, d := range c.Destinations {
		host, port, err := net.SplitHostPort(d)
		n, numErr := strconv.Atoi(port)
		if err != nil || host == "" || host != strings.ToLower(host) || numErr != nil || n < 1 ||
			n > 65535 {
			errs = append(errs,
				fmt.Errorf("DESTINATIONS: %q is not host:port in lower case", d))
		}
	}
	return errors.Join(errs...)
}
