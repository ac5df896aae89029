// Package mlenv is the environment of ml.
package mlenv

import (
	"errors"
	"fmt"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// DataFormat counts the changes of the queue and of what people use in Redis, and of the models in
// Ollama (internal/build), that an earlier ml cannot read. Raise it with such a change.
const DataFormat = 1

// Config is the environment of ml.
type Config struct {
	contract.Common

	// OllamaURL is the base URL of Ollama, with its port. A name with several addresses is several
	// replicas of Ollama: ml spreads its requests over all of them.
	OllamaURL string `env:"OLLAMA_API_URL,required,notEmpty"`

	// DefaultModel is the name of the custom model that the Modelfile makes.
	DefaultModel string `env:"DEFAULT_MODEL,required,notEmpty"`

	// ModelfilePath is the absolute path of the Modelfile inside the container.
	ModelfilePath string `env:"MODELFILE_PATH,required,notEmpty"`

	// ModelfileDigest is the sha256 (hex) of the model's inputs as the plan saw them: a change of
	// the Modelfile shows in the plan and replaces the container. ml refuses a Modelfile that has
	// another digest.
	ModelfileDigest string `env:"MODELFILE_DIGEST,required,notEmpty"`

	// EvalsDigest is the sha256 (hex) of the evals beside the Modelfile, which a version has to pass
	// before it serves. Empty asks none.
	EvalsDigest string `env:"EVALS_DIGEST" optional:"true"`

	// ApplyModel makes the model when the service starts. If it is false, `ml model apply` is run
	// beside the service (a Job on Kubernetes), and the service waits for the model before it is
	// ready.
	ApplyModel bool `env:"APPLY_MODEL,required"`

	// BaseModel replaces the Modelfile's FROM; empty keeps it.
	BaseModel string `env:"BASE_MODEL" optional:"true"`

	// EmbeddingModel makes vectors of documents. It is put into Ollama like a base model. Empty is
	// none.
	EmbeddingModel string `env:"EMBEDDING_MODEL" optional:"true"`

	// NoDownload is set where Ollama has no way out: a base model that it lacks is not asked for at
	// a registry, and somebody has to put it there.
	NoDownload bool `env:"NO_DOWNLOAD" optional:"true"`

	// MaxParallel is how many requests a replica of Ollama is to have at once: all ml together send
	// so many times the number of replicas.
	MaxParallel int `env:"MAX_PARALLEL,required"`

	// MaxQueue is how many requests may wait for their turn, at all ml together. The next one is
	// refused with 429 and Retry-After.
	MaxQueue int `env:"MAX_QUEUE,required"`

	// GenerationTimeout bounds one answer, from its turn to the last token.
	GenerationTimeout time.Duration `env:"GENERATION_TIMEOUT,required"`

	// KeepAlive is how long Ollama keeps an idle model loaded; negative means for ever.
	KeepAlive time.Duration `env:"KEEP_ALIVE,required"`

	// OptionalRedis is where the queue is that all ml share, and the keys by which ml knows who asks.
	// A RedisURL is needed to serve, and not to make the model. While Redis does not answer, ml has
	// a queue of its own.
	contract.OptionalRedis

	// Limits are how much one person may use. While Redis does not answer, those of a day do not
	// hold, and RequestsAtOnce is that of each ml.
	contract.Limits

	// Models say which groups may ask which model.
	Models contract.Models `env:"MODELS" optional:"true"`
}

// LongestAnswer implements contract.Environment.
func (c *Config) LongestAnswer() time.Duration { return c.GenerationTimeout }

// Peers implements contract.Caller.
func (c *Config) Peers() []*string { return []*string{&c.OllamaURL} }

// Validate implements contract.Environment.
func (c *Config) Validate() error {
	errs := []error{
		c.Common.Validate(),
		contract.HTTPURL("OLLAMA_API_URL", c.OllamaURL),
		contract.Absolute("MODELFILE_PATH", c.ModelfilePath),
	}
	if c.MaxParallel < 1 {
		errs = append(errs, fmt.Errorf("MAX_PARALLEL: must be 1 or more, got %d", c.MaxParallel))
	}
	if c.MaxQueue < 0 {
		errs = append(errs, fmt.Errorf("MAX_QUEUE: must not be negative, got %d", c.MaxQueue))
	}

	errs = append(errs, contract.Positive("GENERATION_TIMEOUT", c.GenerationTimeout),
		c.OptionalRedis.Validate(), c.Limits.Validate(), c.Models.Validate())
	return errors.Join(errs...)
}
