package openai

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// completionRequest is a request for the continuation of a text, or for what stands between two.
type completionRequest struct {
	sampling
	Model  string          `json:"model"`
	Prompt json.RawMessage `json:"prompt"`
	Suffix string          `json:"suffix"`
}

// complete answers /v1/completions.
func (s *service) complete(w http.ResponseWriter, r *http.Request, owner string) error {
	if !s.RawCompletions {
		return fault(http.StatusBadRequest, "", "raw_completions_off", "Here each prompt follows the "+
			"model's own SYSTEM prompt, which is for safety, so there are no completions of raw "+
			"prompts: use /v1/chat/completions.")
	}

	var req completionRequest
	if err := decode(r, completionRules, &req); err != nil {
		return err
	}

	prompt, err := one("prompt", req.Prompt)
	switch {
	case err != nil:
		return err
	case req.Model == "":
		return invalid("model", "model must name a model: GET /v1/models lists them.")
	case prompt == "":
		return invalid("prompt", "prompt must not be empty.")
	}

	a := &answer{
		id: "cmpl-", object: "text_completion", chunk: "text_completion",
		model: req.Model, prompt: "prompt", form: textForm{},
	}
	how := req.sampling // the rest of the request is not held while ml answers
	return s.answer(w, r, owner, &how, a, "/generate", &mlapi.GenerateRequest{
		Model: req.Model, Prompt: prompt, Suffix: req.Suffix, Raw: req.Suffix == "",
		Options: req.options(),
	})
}

// one returns a text, or that of a list of one.
func one(at string, raw json.RawMessage) (string, error) {
	all, err := texts(at, raw)
	if err != nil {
		return "", err
	}
	if len(all) != 1 {
		return "", refused(at, "%s can be one text: send others in requests of their own.", at)
	}

	return all[0], nil
}

// texts returns a text or a list of them.
func texts(at string, raw json.RawMessage) ([]string, error) {
	var one string
	if len(raw) == 0 || json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}

	var many []string
	if err := json.Unmarshal(raw, &many); err != nil {
		return nil, refused(at, "%s must be a text or a list of texts: numbers of tokens are not "+
			"taken.", at)
	}

	return many, nil
}

const (
	// maxInputs is how many texts a request for vectors has at most, as OpenAI's.
	maxInputs = 2048

	// embedSlice is for how many vectors ml is asked at once: those of a large model, of 8192
	// numbers each, are within what is read of an answer.
	embedSlice = 128
)

// embeddingRequest is a request for the vectors of texts.
type embeddingRequest struct {
	Model          string          `json:"model"`
	Input          json.RawMessage `json:"input"`
	Dimensions     int             `json:"dimensions"`
	EncodingFormat string          `json:"encoding_format"`
}

// embedding is the vector of a text: a list of numbers, or their bytes in base64.
type embedding struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"`
}

// embed answers /v1/embeddings.
func (s *service) embed(w http.ResponseWriter, r *http.Request, owner string) error {
	var req embeddingRequest
	if err := decode(r, nil, &req); err != nil {
		return err
	}

	input, err := texts("input", req.Input)
	switch {
	case err != nil:
		return err
	case req.Model == "":
		return invalid("model", "model must name a model: GET /v1/models lists them.")
	case req.EncodingFormat != "" && req.EncodingFormat != "float" && req.EncodingFormat != "base64":
		return refused("encoding_format", "encoding_format can be float and base64.")
	case len(input) == 0 || slices.Contains(input, ""):
		return invalid("input", "input must be a text or a list of texts, none of them empty.")
	case len(input) > maxInputs:
		return invalid("input", "input must have %d texts at most.", maxInputs)
	}

	act, err := s.begin(r, owner, req.Model)
	if err != nil {
		return err
	}

	got, err := s.vectors(r.Context(), w, owner, &req, input)
	end(r.Context(), act, 0, &mlapi.Done{PromptTokens: got.PromptTokens}, err)
	if err != nil {
		return asFault(err, "input")
	}

	out := struct {
		list[embedding]
		Model string `json:"model"`
		Usage struct {
			PromptTokens int `json:"prompt_tokens"`
			TotalTokens  int `json:"total_tokens"`
		} `json:"usage"`
	}{list: list[embedding]{Object: "list"}, Model: req.Model}
	out.Usage.PromptTokens, out.Usage.TotalTokens = got.PromptTokens, got.PromptTokens
	for i, v := range got.Embeddings {
		e := embedding{"embedding", i, v}
		if req.EncodingFormat == "base64" {
			e.Embedding = encoded(v)
		}
		out.Data = append(out.Data, e)
	}

	wire.WriteJSON(w, http.StatusOK, out)
	return nil
}

// maxVectors bounds what is read of ml's answer in bytes.
const maxVectors = 16 << 20

// vectors asks ml for the vectors of the texts.
func (s *service) vectors(
	ctx context.Context, w http.ResponseWriter, owner string, req *embeddingRequest, input []string,
) (got mlapi.EmbedResponse, err error) {
	h := asked(owner, rand.Text())
	for some := range slices.Chunk(input, embedSlice) {
		part, err := s.someVectors(ctx, w, h, &mlapi.EmbedRequest{
			Model: req.Model, Input: some, Dimensions: req.Dimensions,
		})
		if err != nil {
			return got, err
		}

		got.Embeddings = append(got.Embeddings, part.Embeddings...)
		got.PromptTokens += part.PromptTokens
	}

	return got, nil
}

// someVectors asks ml once.
func (s *service) someVectors(
	ctx context.Context, w http.ResponseWriter, asked http.Header, ask *mlapi.EmbedRequest,
) (part mlapi.EmbedResponse, err error) {
	resp, err := s.ML.Do(ctx, http.MethodPost, "/embed", ask, asked)
	if err != nil {
		return part, err
	}
	defer resp.Body.Close()

	showLimits(w.Header(), resp.Header)
	err = json.NewDecoder(io.LimitReader(resp.Body, maxVectors)).Decode(&part)
	if err != nil {
		err = fmt.Errorf("ml: the answer is not the JSON expected: %w", err)
	}

	return part, err
}

// encoded returns a vector's numbers as bytes in base64, the lowest first.
func encoded(v []float32) string {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}
