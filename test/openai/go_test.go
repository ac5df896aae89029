package openai_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/test/tinymodel"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/shared"
)

// seeded is in every question: no log may have it.
const seeded = "a-phrase-that-nobody-logs"

// TestGo asks with the official client for Go.
func TestGo(t *testing.T) {
	s := start(t)
	client := openai.NewClient(option.WithBaseURL(s.gate+"/v1"), option.WithAPIKey(s.key),
		option.WithMaxRetries(0))
	ctx := t.Context()
	question := openai.ChatCompletionNewParams{
		Model: "tiny",
		Messages: []openai.ChatCompletionMessageParamUnion{
			openai.SystemMessage("Be brief."), openai.UserMessage(seeded),
		},
	}

	t.Run("models", func(t *testing.T) {
		list, err := client.Models.List(ctx)
		if err != nil || len(list.Data) != 1 || list.Data[0].ID != "tiny" ||
			list.Data[0].Created < 1e9 {
			t.Errorf("%+v, %v", list, err)
		}
		if m, err := client.Models.Get(ctx, "tiny"); err != nil || m.ID != "tiny" {
			t.Errorf("%+v, %v", m, err)
		}
	})

	t.Run("chat", func(t *testing.T) {
		got, err := client.Chat.Completions.New(ctx, question)
		if err != nil {
			t.Fatal(err)
		}
		c := got.Choices[0]
		if c.Message.Content != tinymodel.Answer || c.FinishReason != "stop" ||
			got.Usage.PromptTokens == 0 || got.Usage.CompletionTokens == 0 || got.Model != "tiny" {
			t.Errorf("%s", got.RawJSON())
		}
	})

	t.Run("stream", func(t *testing.T) {
		question := question
		question.MaxCompletionTokens = openai.Int(5)
		question.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
		stream := client.Chat.Completions.NewStreaming(ctx, question)
		var all openai.ChatCompletionAccumulator
		chunks := 0
		for stream.Next() {
			chunks++
			if !all.AddChunk(stream.Current()) {
				t.Errorf("the chunk does not follow: %s", stream.Current().RawJSON())
			}
		}
		if err := stream.Err(); err != nil || chunks < 6 ||
			!strings.HasPrefix(tinymodel.Answer, all.Choices[0].Message.Content) ||
			all.Choices[0].FinishReason != "length" || all.Usage.CompletionTokens != 5 {
			t.Errorf("%v after %d chunks: %+v", err, chunks, all.ChatCompletion)
		}
	})

	t.Run("tools", func(t *testing.T) {
		question := question
		question.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(
			shared.FunctionDefinitionParam{
				Name: "glob",
				Parameters: shared.FunctionParameters{
					"type":       "object",
					"properties": map[string]any{"pattern": map[string]string{"type": "string"}},
				},
			})}
		stream := client.Chat.Completions.NewStreaming(ctx, question)
		var all openai.ChatCompletionAccumulator
		var finished []string
		for stream.Next() {
			all.AddChunk(stream.Current())
			if call, ok := all.JustFinishedToolCall(); ok {
				finished = append(finished, call.Name+call.Arguments)
			}
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		c := all.Choices[0]
		if c.FinishReason != "tool_calls" || len(c.Message.ToolCalls) != 1 ||
			len(finished) != 1 || finished[0] != `glob{"pattern":"*"}` {
			t.Fatalf("%+v, %q", c, finished)
		}

		question.Messages = append(question.Messages, c.Message.ToParam(),
			openai.ToolMessage("main.go", c.Message.ToolCalls[0].ID))
		got, err := client.Chat.Completions.New(ctx, question)
		if err != nil || got.Choices[0].Message.Content != tinymodel.Answer {
			t.Errorf("with the result: %+v, %v", got, err)
		}
	})

	t.Run("format", func(t *testing.T) {
		question := question
		question.MaxCompletionTokens = openai.Int(64)
		question.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{
			JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
				Name: "x", Schema: map[string]any{"type": "object"},
			},
		}
		got, err := client.Chat.Completions.New(ctx, question)
		if err != nil || !strings.HasPrefix(got.Choices[0].Message.Content, "{") {
			t.Errorf("%+v, %v", got, err)
		}
	})

	t.Run("completions", func(t *testing.T) {
		ask := openai.CompletionNewParams{
			Model:  "tiny",
			Prompt: openai.CompletionNewParamsPromptUnion{OfString: param.NewOpt("func add(" + seeded)},
			Suffix: param.NewOpt("}"),
		}
		got, err := client.Completions.New(ctx, ask)
		if err != nil || got.Choices[0].Text != tinymodel.Filling {
			t.Errorf("%+v, %v", got, err)
		}

		ask.Suffix = param.Opt[string]{}
		stream := client.Completions.NewStreaming(ctx, ask)
		text := ""
		for stream.Next() {
			text += stream.Current().Choices[0].Text
		}
		if err := stream.Err(); err != nil || text != tinymodel.Answer {
			t.Errorf("%q, %v", text, err)
		}
	})

	t.Run("embeddings", func(t *testing.T) {
		got, err := client.Embeddings.New(ctx, openai.EmbeddingNewParams{
			Model:      "tiny",
			Input:      openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{seeded, "b"}},
			Dimensions: openai.Int(16),
		})
		if err != nil || len(got.Data) != 2 || len(got.Data[1].Embedding) != 16 ||
			got.Data[1].Index != 1 || got.Usage.PromptTokens == 0 {
			t.Errorf("%+v, %v", got, err)
		}
	})

	t.Run("errors", func(t *testing.T) {
		long, absent := question, question
		long.Messages = []openai.ChatCompletionMessageParamUnion{
			openai.UserMessage(strings.Repeat("x ", numCtx)), openai.UserMessage("Hi"),
		}
		absent.Model = "absent"
		narrow := option.WithAPIKey(s.makeKey(t, "models"))
		for _, tt := range []struct {
			ask    openai.ChatCompletionNewParams
			option option.RequestOption
			status int
			code   string
		}{
			{question, option.WithAPIKey("cck_WRONG"), 401, "invalid_api_key"},
			{question, narrow, 403, "insufficient_permissions"},
			{absent, option.WithAPIKey(s.key), 404, "model_not_found"},
			{long, option.WithAPIKey(s.key), 400, "context_length_exceeded"},
			{question, option.WithJSONSet("n", 2), 400, "unsupported_value"},
		} {
			_, err := client.Chat.Completions.New(ctx, tt.ask, tt.option)
			stream := client.Chat.Completions.NewStreaming(ctx, tt.ask, tt.option)
			for stream.Next() {
				t.Errorf("%s: %s", tt.code, stream.Current().RawJSON())
			}
			for _, err := range []error{err, stream.Err()} {
				var e *openai.Error
				if !errors.As(err, &e) || e.StatusCode != tt.status || e.Code != tt.code {
					t.Errorf("%s: %v", tt.code, err)
				}
			}
		}
	})

	t.Run("abort and queue", func(t *testing.T) {
		// The model repeats itself until it is stopped: it has one turn, and the queue one place.
		endless := openai.CompletionNewParams{
			Model: "tiny",
			Prompt: openai.CompletionNewParamsPromptUnion{
				OfString: param.NewOpt(seeded + tinymodel.LoopToken),
			},
		}
		aborted, abort := context.WithCancel(ctx)
		defer abort()
		stream := client.Completions.NewStreaming(aborted, endless)
		if !stream.Next() {
			t.Fatal(stream.Err())
		}

		queued := make(chan error, 1)
		go func() {
			stream := client.Completions.NewStreaming(aborted, endless)
			stream.Next()
			queued <- stream.Err()
		}()
		await(t, "a full queue", func() bool { return s.gauge(t, "ml_queue_waiting") == "1" })
		_, err := client.Completions.New(ctx, endless)
		var e *openai.Error
		if !errors.As(err, &e) || e.StatusCode != http.StatusTooManyRequests ||
			e.Code != "rate_limit_exceeded" || e.Response.Header.Get("Retry-After") == "" {
			t.Errorf("%v", err)
		}

		abort()
		if err := <-queued; err == nil {
			t.Error("the one that waited came to its turn")
		}
		s.quiet(t)
	})

	s.unkept(t, seeded, s.key, "main.go")
}
