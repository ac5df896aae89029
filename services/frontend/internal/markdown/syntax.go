package markdown

import "strings"

// syntax is what a language is made of, as far as its colours go.
type syntax struct {
	kind    int
	line    []string    // what begins a comment to the end of the line
	block   [][2]string // what begins and ends a comment
	quotes  []quote     // the longer marks first
	words   map[string]string
	fold    bool   // words are the same in upper and lower case
	sigils  string // what begins a variable
	inWords string // what words may hold beside letters and digits
	keys    byte   // what follows a key
	calls   bool   // a word before a parenthesis is a function
}

const (
	kindSource = iota
	kindMarkup
	kindDiff
)

// quote is a kind of string. raw knows no backslash, lines goes on over line breaks, maybe is no string at all unless
// it is closed on its line; short holds one character or escape.
type quote struct {
	mark                     string
	raw, lines, maybe, short bool
}

// words maps keywords, types and constants to their classes.
func words(keywords, types, constants string) map[string]string {
	m := map[string]string{}
	for class, list := range map[string]string{"k": keywords, "kt": types, "kc": constants} {
		for w := range strings.FieldsSeq(list) {
			m[w] = class
		}
	}
	return m
}

var (
	double   = quote{mark: `"`}
	single   = quote{mark: `'`}
	loose    = quote{mark: `'`, maybe: true}
	char     = quote{mark: `'`, maybe: true, short: true}
	backtick = quote{mark: "`", lines: true}
	slash    = []string{"//"}
	hash     = []string{"#"}
	star     = [][2]string{{"/*", "*/"}}
)

// cLike is a language with braces, C's comments and C's strings.
func cLike(w map[string]string) *syntax {
	return &syntax{line: slash, block: star, quotes: []quote{double, char}, words: w, calls: true}
}

// syntaxes holds the languages by the names that fences use.
var syntaxes = func() map[string]*syntax {
	goLang := cLike(words("break case chan const continue default defer else fallthrough for func go goto if import interface map package range return select struct switch type var",
		"any bool byte comparable complex64 complex128 error float32 float64 int int8 int16 int32 int64 rune string uint uint8 uint16 uint32 uint64 uintptr", "true false nil iota"))
	goLang.quotes = []quote{double, char, {mark: "`", raw: true, lines: true}}
	js := cLike(words("abstract as async await break case catch class const continue debugger default delete do else enum export extends finally for from function get if implements import in instanceof interface let namespace new of private protected public readonly return satisfies set static super switch this throw try type typeof var void while with yield",
		"any bigint boolean never number object string symbol unknown Array Date Error Map Math Object Promise RegExp Set", "true false null undefined NaN Infinity"))
	js.quotes, js.inWords = []quote{double, single, backtick}, "$"
	c := cLike(words("alignas auto break case catch class concept const consteval constexpr continue co_await co_return co_yield default delete do else enum explicit export extern final for friend goto if inline mutable namespace new noexcept operator override private protected public register requires return sizeof static static_cast struct switch template this throw try typedef typename union using virtual volatile while",
		"bool char double float int long short signed unsigned void size_t ssize_t int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t wchar_t string vector", "true false nullptr NULL"))
	java := cLike(words("abstract actual as async await base break by case catch checked class companion const constructor continue data def default delegate do dynamic else enum event extends extension extern final finally fixed for foreach fun func get given goto guard if implements implicit import in inline inner instanceof interface internal is late lateinit let lock match mixin mut namespace native new object open operator out override package params partial permits private protected public readonly record ref required return sealed select set static struct super suspend switch synchronized this throw throws trait transient try type typealias unchecked unsafe using val var virtual volatile when where while with yield",
		"bool boolean byte char decimal double float int long nint object sbyte short string uint ulong ushort void Any Array Boolean Double Exception Int Integer List Long Map Object Set String Unit", "true false null nil self"))
	java.quotes, java.sigils = []quote{{mark: `"""`, lines: true}, double, loose}, "@"
	rust := cLike(words("as async await break const continue crate dyn else enum extern fn for if impl in let loop macro_rules match mod move mut pub ref return static struct super trait type union unsafe use where while",
		"bool char f32 f64 i8 i16 i32 i64 i128 isize str u8 u16 u32 u64 u128 usize Box HashMap Option Rc Result Self String Vec Arc", "true false None Some Ok Err self"))
	rust.quotes = []quote{{mark: `"`, lines: true}, char}
	php := cLike(words("abstract and array as break callable case catch class clone const continue declare default do echo else elseif empty enum extends final finally fn for foreach function global if implements include include_once instanceof interface isset match namespace new or print private protected public readonly require require_once return static switch throw trait try unset use var while xor yield",
		"bool float int iterable mixed object string void", "true false null"))
	php.line, php.quotes, php.sigils, php.fold = []string{"//", "#"}, []quote{{mark: `"`, lines: true}, {mark: `'`, lines: true}}, "$", true
	proto := cLike(words("enum extend extensions import map message oneof option optional package repeated required reserved returns rpc service stream syntax to",
		"bool bytes double fixed32 fixed64 float int32 int64 sint32 sint64 string uint32 uint64", "true false"))
	css := &syntax{block: star, line: slash, quotes: []quote{double, single}, words: words("important", "", "auto inherit initial none unset"), sigils: "@$", inWords: "-", keys: ':', calls: true}
	python := &syntax{line: hash, quotes: []quote{{mark: `"""`, lines: true}, {mark: `'''`, lines: true}, double, single}, sigils: "@", calls: true,
		words: words("and as assert async await break case class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return try while with yield",
			"bool bytes dict float frozenset int list object set str tuple type", "True False None self cls")}
	ruby := &syntax{line: hash, quotes: []quote{double, single, backtick}, sigils: "@$:", inWords: "?!", calls: true,
		words: words("alias and after begin break case catch class cond def defdelegate defimpl defmacro defmodule defp defprotocol defstruct do else elsif end ensure fn for if import in loop module next not or quote raise receive redo require rescue rest retry return super then try undef unless until use when while with yield puts", "", "true false nil self")}
	shell := &syntax{line: hash, quotes: []quote{{mark: `"`, lines: true}, {mark: `'`, raw: true, lines: true}}, sigils: "$", inWords: "-",
		words: words("case do done elif else esac exit export fi for function if in local readonly return select set shift source then trap unset until while alias cd echo eval exec printf read sudo test", "", "true false")}
	shell.words["cd"] = "nf"
	docker := &syntax{line: hash, quotes: []quote{double, single}, sigils: "$", inWords: "-",
		words: words("ADD ARG AS CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR ADAPTER LICENSE MESSAGE PARAMETER SYSTEM TEMPLATE", "", "")}
	docker.quotes = []quote{{mark: `"""`, lines: true}, double, single}
	sql := &syntax{line: []string{"--"}, block: star, quotes: []quote{{mark: `'`, raw: true, lines: true}, {mark: `"`, raw: true}, {mark: "`", raw: true}}, fold: true, calls: true,
		words: words("add all alter analyze and any as asc begin between by cascade case check collate column commit concurrently conflict constraint create cross current database default delete desc distinct do drop else end except exists explain fetch for foreign from full function grant group having if ilike in index inner insert intersect into is join key lateral left like limit lock materialized natural not nothing null of offset on or order outer over partition primary procedure recursive references replace returning revoke right rollback row rows schema select set show table temporary then to transaction trigger truncate union unique update using values view when where window with",
			"bigint bigserial boolean bytea char date decimal double float int integer interval json jsonb numeric real serial smallint text time timestamp timestamptz uuid varchar", "true false")}
	lua := &syntax{line: []string{"--"}, block: [][2]string{{"--[[", "]]"}, {"{-", "-}"}}, quotes: []quote{double, loose}, calls: true,
		words: words("and break case class data deriving do else elseif end for function goto if import in infix instance let local module newtype not of or qualified repeat return then type until where while", "Bool Char Double Int Integer Maybe String", "true false nil True False Nothing Just")}
	yaml := &syntax{line: hash, quotes: []quote{double, {mark: `'`, raw: true, maybe: true}}, inWords: "-./", keys: ':', words: words("", "", "true false null yes no on off")}
	json := &syntax{line: slash, block: star, quotes: []quote{double}, keys: ':', words: words("", "", "true false null")}
	toml := &syntax{line: []string{"#", ";"}, quotes: []quote{{mark: `"""`, lines: true}, double, {mark: `'`, raw: true, maybe: true}}, inWords: "-.", keys: '=', words: words("", "", "true false")}
	hcl := &syntax{line: []string{"#", "//"}, block: star, quotes: []quote{double}, inWords: "-", keys: '=', calls: true,
		words: words("data dynamic for for_each if in locals module output provider resource terraform variable", "any bool list map number object set string tuple", "true false null")}
	graphql := &syntax{line: hash, quotes: []quote{{mark: `"""`, lines: true}, double}, sigils: "@$",
		words: words("directive enum extend fragment implements input interface mutation on query scalar schema subscription type union", "Boolean Float ID Int String", "true false null")}
	perl := &syntax{line: hash, quotes: []quote{double, single}, sigils: "$@%", calls: true,
		words: words("break else elsif for foreach function if in last local my next our package print repeat require return sub unless until use while", "", "TRUE FALSE NULL NA undef")}
	makefile := &syntax{line: hash, quotes: []quote{double, loose}, sigils: "$", inWords: "-", words: words("define else endef endif export ifdef ifeq ifndef ifneq include override", "", "")}
	markup, diff := &syntax{kind: kindMarkup}, &syntax{kind: kindDiff}

	m := map[string]*syntax{}
	for names, s := range map[string]*syntax{
		"go golang": goLang, "js javascript jsx mjs cjs ts typescript tsx": js, "c h cpp c++ cc hpp cuda objective-c objc glsl arduino": c,
		"java kotlin kt scala groovy gradle csharp c# cs dart swift": java, "rust rs zig": rust, "php": php, "proto protobuf": proto,
		"css scss sass less": css, "python py python3 starlark bzl": python, "ruby rb elixir ex exs crystal": ruby,
		"bash sh shell zsh console shell-session fish": shell, "dockerfile docker containerfile modelfile": docker,
		"sql postgresql postgres mysql sqlite plpgsql": sql, "lua haskell hs": lua, "yaml yml": yaml, "json json5 jsonc": json,
		"toml ini properties conf cfg": toml, "hcl terraform tf": hcl, "graphql gql": graphql, "perl pl r": perl, "make makefile": makefile,
		"html xml svg xhtml vue svelte": markup, "diff patch": diff,
	} {
		for name := range strings.FieldsSeq(names) {
			m[name] = s
		}
	}
	return m
}()
