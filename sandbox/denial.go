package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/internal/httpd"
)

// denial is a refusal for want of a right.
type denial struct {
	kind     denialKind
	by       *caller
	action   Action
	table    *table
	rule     *rule
	subject  string // the missing one
	existing bool   // it is about the record as it is, not about the payload
}

type denialKind uint8

const (
	deniedResource denialKind = iota + 1
	deniedAction
	deniedRelationship
	deniedElement
	deniedNamespace
	deniedNamespaceMissing
	deniedNoNamespaces
)

const (
	textDenied        = "Access to the requested data could not be authorized."
	textMisconfigured = "There was a problem authorizing the request. The caller has not been configured correctly for accessing resources authorized by Namespace."
	claimPrefix       = "http://ed-fi.org/identity/claims/"
	claimsShown       = 5 // education organizations a text lists
)

// problem says a denial in the ODS's words.
func (d *denial) problem() *httpd.Problem {
	forbidden := func(kind, detail string, errs ...string) *httpd.Problem {
		return problem(http.StatusForbidden, "security:authorization"+kind, "Authorization Denied", detail, errs...)
	}
	existing := ""
	if d.existing {
		existing = "existing "
	}
	switch d.kind {
	case deniedResource:
		return forbidden(":access-denied:resource", textDenied+" You do not have permissions to access this data.",
			fmt.Sprintf("The API client's assigned claim set (currently '%s') must include one of the following resource claims to provide access to this resource: %s.",
				d.by.claims.Name, d.resourceClaim()))
	case deniedAction:
		return forbidden(":access-denied:action", textDenied+" You do not have permissions to perform the requested operation on the data.",
			fmt.Sprintf("The API client's assigned claim set (currently '%s') must grant permission of the '%s' action on one of the following resource claims: %s.",
				d.by.claims.Name, d.action, d.resourceClaim()))
	case deniedNoNamespaces:
		return forbidden(":namespace:invalid-client:no-namespaces", textMisconfigured,
			"The API client has been given permissions on a resource that uses the 'NamespaceBased' authorization strategy but the client doesn't have any namespace prefixes assigned.")
	case deniedNamespace:
		return forbidden(":namespace:access-denied:namespace-mismatch",
			fmt.Sprintf("%s The %s'Namespace' value of the data does not start with any of the caller's associated namespace prefixes ('%s').",
				textDenied, existing, strings.Join(d.by.NamespacePrefixes, "', '")))
	case deniedNamespaceMissing:
		detail := fmt.Sprintf("%s The %s'Namespace' value has not been assigned but is required for authorization purposes.", textDenied, existing)
		if d.existing {
			return forbidden(":namespace:invalid-data:namespace-uninitialized", detail,
				"The existing resource item is inaccessible to clients using the 'NamespaceBased' authorization strategy because the 'Namespace' value has not been assigned.")
		}
		return forbidden(":namespace:access-denied:namespace-required", detail)
	case deniedElement:
		detail := fmt.Sprintf("%s The %s'%s' value is required for authorization purposes.", textDenied, existing, d.subject)
		if d.existing {
			return forbidden(":relationships:invalid-data:element-uninitialized", detail,
				fmt.Sprintf("The existing resource item is inaccessible to clients using the '%s' authorization strategy.", d.rule.relationships[0]))
		}
		return forbidden(":relationships:access-denied:element-required", detail)
	}
	return forbidden("", textDenied+d.hint(), d.relationshipText())
}

func (d *denial) resourceClaim() string {
	path, _, _ := strings.Cut(d.table.path, "/")
	return "'" + claimPrefix + path + "/" + lowerFirst(d.table.res.Name) + "'"
}

// hint names the associations the strategies go through.
func (d *denial) hint() string {
	var hints []string
	add := func(kind subjectKind, text string) {
		for _, s := range d.rule.relationships {
			through := s == RelationshipsWithStudentsOnlyThroughResponsibility
			asked := strings.Contains(text, "Responsibility")
			for _, sub := range d.table.subjects {
				if sub.kind == kind && s.looksAt(kind) && through == asked && !slices.Contains(hints, text) {
					hints = append(hints, text)
				}
			}
		}
	}
	contact := "Contact"
	if slices.ContainsFunc(d.table.subjects, func(s subject) bool { return s.name == "ParentUniqueId" }) {
		contact = "Parent"
	}
	add(subjectContact, "You may need to create corresponding 'StudentSchoolAssociation' and 'Student"+contact+"Association' items.")
	add(subjectStaff, "You may need to create corresponding 'StaffEducationOrganizationEmploymentAssociation' or 'StaffEducationOrganizationAssignmentAssociation' items.")
	add(subjectStudent, "You may need to create a corresponding 'StudentSchoolAssociation' item.")
	add(subjectStudent, "You may need to create a corresponding 'StudentEducationOrganizationResponsibilityAssociation' item.")
	if len(hints) == 0 {
		return ""
	}
	return " Hint: " + strings.Join(hints, " ")
}

// relationshipText is the same whether a subject does not exist or is another's: nobody is told which.
func (d *denial) relationshipText() string {
	var names []string
	for _, sub := range d.table.subjects {
		if slices.ContainsFunc(d.rule.relationships, func(s Strategy) bool { return s.looksAt(sub.kind) }) && !slices.Contains(names, sub.name) {
			names = append(names, sub.name)
		}
	}
	claims := "none"
	if ids := d.by.EducationOrganizations; len(ids) > 0 {
		var shown []string
		for _, id := range ids[:min(len(ids), claimsShown)] {
			shown = append(shown, fmt.Sprint(id))
		}
		if len(ids) > claimsShown {
			shown = append(shown, "...")
		}
		claims = strings.Join(shown, ", ")
	}
	word := "claims"
	if len(d.by.EducationOrganizations) == 1 {
		word = "claim"
	}
	text := fmt.Sprintf("No relationships have been established between the caller's education organization id %s (%s) and ", word, claims)
	if len(names) == 1 {
		return text + fmt.Sprintf("the resource item's '%s' value.", names[0])
	}
	return text + fmt.Sprintf("one or more of the following properties of the resource item: '%s'.", strings.Join(names, "', '"))
}
