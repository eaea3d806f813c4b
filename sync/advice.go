package sync

import (
	gosync "sync"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
)

// Advice is what a person is told about an issue code: who can act, and how. docs/operations.md has the same words; a test holds them
// together.
type Advice struct {
	Code  string
	Owner string // mapping, source data, target host, us
	Hint  string
}

// AdviceOn returns the advice on an issue code, of an answer of the target too; ok is false for a code nobody gives. It may be called
// concurrently.
func AdviceOn(code string) (a Advice, ok bool) {
	if a, ok := adviceByCode()[code]; ok {
		return a, true
	}
	owner, hint, ok := edfi.Advice(code)
	return Advice{Code: code, Owner: string(owner), Hint: hint}, ok
}

var adviceByCode = gosync.OnceValue(func() map[string]Advice {
	out := map[string]Advice{}
	for _, a := range Advices() {
		out[a.Code] = a
	}
	return out
})

// The owners of issues, in the words of package edfi.
const (
	byMapping = string(edfi.OwnerMapping)
	bySource  = string(edfi.OwnerSource)
	byHost    = string(edfi.OwnerTarget)
	byUs      = string(edfi.OwnerUs)
)

// Advices is the one table of the issue codes that rows get before, or without, a call: those of the model's rules first, then the engine's
// own. Codes of answers are in package edfi.
func Advices() []Advice {
	const (
		enter   = "Correct the value in the SIS, or convert it in the query if the query got it wrong."
		inQuery = "Correct the column in the query."
		judge   = "Look whether the SIS, the query or a filter changed; then approve or discard what is held."
	)
	return []Advice{
		{schema.CodeRequired, bySource, "Enter the value in the SIS; if the SIS has it, give it a column in the query."},
		{schema.CodeEmpty, bySource, "Enter the value in the SIS; if the SIS has it, give it a column in the query."},
		{schema.CodeZero, bySource, enter},
		{schema.CodeTooFewItems, bySource, "Enter at least one item in the SIS; if the SIS has it, look at the subquery that collects the items."},
		{schema.CodeTooLong, bySource, "Shorten the text in the SIS, or cut it in the query if you want it cut: edfisync never does."},
		{schema.CodeTooShort, bySource, enter},
		{schema.CodeBlankEnds, byMapping, "Trim the text in the query, if that is right for your SIS."},
		{schema.CodeDangerous, bySource, "Take the markup out of the text in the SIS."},
		{schema.CodeNUL, bySource, "Correct the text in the SIS; often an import used a wrong character set."},
		{schema.CodeInvalidUTF8, bySource, "Correct the text in the SIS; often an import used a wrong character set."},
		{schema.CodeNotBoolean, bySource, enter},
		{schema.CodeNotInteger, bySource, enter},
		{schema.CodeNotNumber, bySource, enter},
		{schema.CodeNotDate, bySource, enter},
		{schema.CodeNotDateTime, bySource, enter},
		{schema.CodeNotTime, bySource, enter},
		{schema.CodeOutOfRange, bySource, enter},
		{schema.CodeTooPrecise, byMapping, "Round the number in the query, if that is right: edfisync never does."},
		{schema.CodeWrongType, byMapping, inQuery},
		{schema.CodeLooseType, byMapping, inQuery},
		{schema.CodeMalformed, byMapping, inQuery},
		{schema.CodeDuplicateKey, byMapping, inQuery},
		{schema.CodeUnknownProperty, byMapping, inQuery},
		{schema.CodeNotDescriptor, byMapping, "Correct the descriptor map or the query: a descriptor is written as uri://namespace/Name#Code."},
		{schema.CodeWrongDescriptor, byMapping, "Correct the descriptor map or the query: a descriptor is written as uri://namespace/Name#Code."},
		{schema.CodeUnmapped, byMapping, "Add the code to the pack's descriptor map, or under descriptors of the connection."},
		{schema.CodeNotNamespace, byMapping, inQuery},
		{schema.CodeNotCodeValue, byMapping, inQuery},
		{schema.CodeIncomplete, bySource, "Give all properties of the reference a value, or none."},
		{schema.CodeUnified, bySource, "Make the two values equal in the SIS, or join by the right one in the query."},
		{schema.CodeDuplicateItem, bySource, "Remove the second item in the SIS, or make the subquery give each once."},
		{"source-key-missing", byMapping, "Let the query give every row its _key, the SIS's own primary key."},
		{"duplicate-natural-key", byMapping, "Look for the second row in the SIS, or for a join in the query that multiplies rows."},
		{"missing-reference", bySource, "Solve the issue of the record it waits for, or add it to the source; this row follows by itself."},
		{"ambiguous-reference", bySource, "Solve the duplicate natural key of the record it refers to; this row follows by itself."},
		{"unsettled-below", byHost, "The next run looks again, and the change follows by itself. If it stays, ask the target's host."},
		{"met-existing", byHost, "Nothing has to be done. If the record is yours, edfisync adopt takes it over."},
		{"met-existing-gone", byHost, "If the record is yours, edfisync adopt --extra takes it over; otherwise leave it."},
		{codeDuplicateAtTarget, byHost, "Look whether fold_keys says how the target compares keys; if it does, have the record that is not yours deleted."},
		{codeUnreadableAtTarget, byHost, "Look the record up by its id at the target, and have its maker correct or delete it."},
		{"person-still-has-records", byUs, "Solve the issues of the person's other records first; this one follows by itself."},
		{string(RuleMassDelete), bySource, judge},
		{string(RuleRunDelete), bySource, judge},
		{string(RuleMassUpdate), bySource, judge},
		{string(RuleRunUpdate), bySource, judge},
		{string(RuleEmptySource), bySource, judge},
		{string(RuleShortSource), bySource, judge},
		{string(RuleUnnamedRows), byMapping, "Let the query give every row its _key, the SIS's own primary key, whatever it joins; then what is held leaves by itself."},
		{string(RuleRollover), bySource, "Give each school year a connection of its own; then approve or discard what is held."},
		{string(RulePreventDelete), byMapping, "Nothing has to be done."},
		{string(RuleOutOfScope), byUs, "Approve the hold to remove from the target what was sent, or discard it to leave it there; or take the school, or the resource, into the connection again."},
		{string(RuleSourceBehind), bySource, "Let the replica catch up, or read another one. If the SIS was restored on purpose, approve what is held: that accepts the state of the source, too. To discard it accepts nothing."},
		{string(RuleTargetReset), byHost, "Ask the host what happened; then edfisync adopt if the records are there again, or edfisync run --resync to write them anew."},
		{"missing-association", bySource, "Solve the issue of the enrolment or assignment it waits for; this row follows by itself."},
		{"no-association", bySource, "Put an enrolment, for staff an assignment, of the person back in the SIS, and run: what waits is sent then. To delete a person who has left, remove it afterwards together with " +
			"all other rows of the person, or ask the target's host to delete these records. If the right comes from elsewhere, edfisync retry sends them."},
		{"dependent-kept", byUs, "Solve the issue of the record that refers to it first; this delete follows by itself."},
		{"no-answer", byHost, "The next run settles it. If it stays, ask the target's host."},
	}
}
