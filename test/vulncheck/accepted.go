package main

// accepted maps vulnerabilities that do no harm here to the reason why. The database lists those of
// Ollama for every version and every function of its module: it knows neither what is affected nor
// which version fixes it. This repository uses of that module the client of its API, the parser of
// Modelfiles and the reader of GGUF headers.
var accepted = map[string]string{
	"GO-2025-4251": "of Ollama's server, which asks nobody who they are: it is on the stack's " +
		"own network, and no stack but dev publishes its port, on 127.0.0.1",
	"GO-2025-3824": "of Ollama's server, which may give its token to the registry that a model's " +
		"name leads it to: the model's names are in the stack's settings, and the stack gives it no account",
	"GO-2025-3695": gguf,
	"GO-2025-3689": gguf,
	"GO-2025-3582": gguf,
	"GO-2025-3559": gguf,
	"GO-2025-3558": gguf,
	"GO-2025-3557": gguf,
}

const gguf = "a crash or an endless answer for a made-up GGUF file or Modelfile: both are the " +
	"repository's own, beside the stack's settings, and nobody uploads any through the services"
