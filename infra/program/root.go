package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Root finds the project's root: the folder of Pulumi.yaml, at or above start.
func Root(start string) (string, error) {
	start, err := filepath.Abs(start)
	if err != nil {
		return "", err
	}

	for dir := start; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, "Pulumi.yaml"))
		switch {
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		case dir == filepath.Dir(dir):
			return "", fmt.Errorf("there is no Pulumi.yaml at or above %s: run this inside the project",
				start)
		}
	}
}
