package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// Action is something a claim set may allow with a resource.
type Action string

// The actions of the Ed-Fi security model.
const (
	Create      Action = "Create"
	Read        Action = "Read"
	Update      Action = "Update"
	Delete      Action = "Delete"
	ReadChanges Action = "ReadChanges" // the change query routes deletes and keyChanges
)

// actions are all actions, in the order token_info lists them.
func actions() [actionCount]Action {
	return [actionCount]Action{Create, Read, Update, Delete, ReadChanges}
}

const actionCount = 5

func (a Action) index() int {
	all := actions()
	return slices.Index(all[:], a)
}

// Strategy is how an allowed action is narrowed to the caller's own records. Several relationship strategies of one action are
// alternatives; NamespaceBased is demanded beside them.
type Strategy string

// The strategies the sandbox knows, by the names of the ODS/API.
const (
	NoFurtherAuthorizationRequired                     Strategy = "NoFurtherAuthorizationRequired"
	NamespaceBased                                     Strategy = "NamespaceBased"
	RelationshipsWithEdOrgsOnly                        Strategy = "RelationshipsWithEdOrgsOnly"
	RelationshipsWithEdOrgsAndPeople                   Strategy = "RelationshipsWithEdOrgsAndPeople"
	RelationshipsWithEdOrgsAndPeopleInverted           Strategy = "RelationshipsWithEdOrgsAndPeopleInverted" // of organizations above the caller's too
	RelationshipsWithStudentsOnly                      Strategy = "RelationshipsWithStudentsOnly"
	RelationshipsWithStudentsOnlyThroughResponsibility Strategy = "RelationshipsWithStudentsOnlyThroughResponsibility"
)

func (s Strategy) known() bool {
	switch s {
	case NoFurtherAuthorizationRequired, NamespaceBased, RelationshipsWithEdOrgsOnly, RelationshipsWithEdOrgsAndPeople,
		RelationshipsWithEdOrgsAndPeopleInverted, RelationshipsWithStudentsOnly, RelationshipsWithStudentsOnlyThroughResponsibility:
		return true
	}
	return false
}

// Claim is what a claim set allows with one resource: an action that is not in it is refused, one without a strategy needs none.
type Claim map[Action][]Strategy

// ClaimSet is a named set of claims.
type ClaimSet struct {
	Name   string
	Claims map[string]Claim // by path, "ed-fi/students"; a resource that is not in it may not be used at all
}

// Names of the claim sets every sandbox has. FullAccess is the sandbox's own: every action without further authorization. The others are
// those an ODS/API is shipped with.
const (
	FullAccess              = "Full Access"
	SISVendor               = "SIS Vendor"
	DistrictHostedSISVendor = "District Hosted SIS Vendor"
	EdFiSandbox             = "Ed-Fi Sandbox"
)

// ClaimSetNames are the names of the claim sets every sandbox has.
func ClaimSetNames() []string {
	return []string{FullAccess, SISVendor, DistrictHostedSISVendor, EdFiSandbox}
}

// ShippedClaimSet returns a claim set of ClaimSetNames for the resources of a model, to be used as it is or changed by the caller, who owns
// it; false when there is none of the name. Resources of extensions have claims in FullAccess only: an ODS has none for them until its host
// adds them.
func ShippedClaimSet(m *schema.Model, name string) (ClaimSet, bool) {
	if !slices.Contains(ClaimSetNames(), name) {
		return ClaimSet{}, false
	}
	set := ClaimSet{Name: name, Claims: map[string]Claim{}}
	groups := claimGroups()
	for _, r := range m.Resources {
		if name == FullAccess {
			set.Claims[r.Path] = crud(NoFurtherAuthorizationRequired, NoFurtherAuthorizationRequired)
			continue
		}
		group, ok := groups[r.Name]
		switch {
		case !strings.HasPrefix(r.Path, "ed-fi/"):
			continue
		case !ok && r.Descriptor:
			group = systemDescriptors
		case !ok:
			continue
		}
		if c := group.claim(name); c != nil {
			if r.Name == "Course" || r.Name == "Program" { // the state's are for everybody to refer to
				c[Read] = append(c[Read], RelationshipsWithEdOrgsAndPeopleInverted)
			}
			set.Claims[r.Path] = c
		}
	}
	return set, true
}

// claimGroup is a node of the ODS's tree of resource claims, where the strategies of what is below it are set.
type claimGroup uint8

const (
	systemDescriptors claimGroup = iota + 1
	namespacedSystemDescriptors
	managedDescriptors
	types
	educationOrganizations
	schools
	agencies
	organizationDepartments
	people
	primaryRelationships
	studentContacts
	relationshipBasedData
	eligibility
	assessmentMetadata
	educationStandards
	open
	crisisEvents
	finance
	financeDimensions
	studentHealth
)

// claimGroups says to which group an entity belongs. The lists are those of the claims an ODS/API 7.3 is shipped with; what data standard 4.0
// calls otherwise stands beside it. Descriptors that are not listed are system descriptors, other entities nobody may use.
func claimGroups() map[string]claimGroup {
	groups := map[string]claimGroup{}
	for group, names := range map[claimGroup]string{
		namespacedSystemDescriptors: "CrisisTypeDescriptor NonMedicalImmunizationExemptionDescriptor",
		managedDescriptors: "ReasonNotTestedDescriptor AccommodationDescriptor AssessmentPeriodDescriptor AssessmentReportingMethodDescriptor " +
			"PerformanceLevelDescriptor",
		types: "SchoolYearType",
		educationOrganizations: "CommunityOrganization CommunityProvider EducationOrganizationNetwork EducationServiceCenter " +
			"PostSecondaryInstitution StateEducationAgency",
		schools:                 "School",
		agencies:                "LocalEducationAgency",
		organizationDepartments: "OrganizationDepartment",
		people:                  "Contact Parent Staff Student",
		primaryRelationships: "StaffEducationOrganizationAssignmentAssociation StaffEducationOrganizationEmploymentAssociation " +
			"StudentSchoolAssociation",
		studentContacts: "StudentContactAssociation StudentParentAssociation",
		relationshipBasedData: "AcademicWeek AccountabilityRating BellSchedule Calendar CalendarDate ClassPeriod Cohort CommunityProviderLicense " +
			"CompetencyObjective Course CourseOffering CourseTranscript DisciplineAction DisciplineIncident " +
			"EducationOrganizationInterventionPrescriptionAssociation EducationOrganizationNetworkAssociation EducationOrganizationPeerAssociation " +
			"EvaluationRubricDimension FeederSchoolAssociation Grade GradingPeriod GraduationPlan Intervention InterventionPrescription " +
			"InterventionStudy Location OpenStaffPosition PostSecondaryEvent Program ProgramEvaluation ProgramEvaluationElement " +
			"ProgramEvaluationObjective ReportCard RestraintEvent Section SectionAttendanceTakenEvent Session StaffAbsenceEvent " +
			"StaffCohortAssociation StaffDisciplineIncidentAssociation StaffEducationOrganizationContactAssociation StaffLeave " +
			"StaffProgramAssociation StaffSchoolAssociation StaffSectionAssociation StudentAcademicRecord " +
			"StudentAssessmentEducationOrganizationAssociation StudentCTEProgramAssociation StudentCohortAssociation StudentCompetencyObjective " +
			"StudentDisciplineIncidentAssociation StudentDisciplineIncidentBehaviorAssociation StudentDisciplineIncidentNonOffenderAssociation " +
			"StudentEducationOrganizationAssessmentAccommodation StudentEducationOrganizationAssociation " +
			"StudentEducationOrganizationResponsibilityAssociation StudentGradebookEntry StudentHomelessProgramAssociation " +
			"StudentInterventionAssociation StudentInterventionAttendanceEvent StudentLanguageInstructionProgramAssociation " +
			"StudentLearningObjective StudentMigrantEducationProgramAssociation StudentNeglectedOrDelinquentProgramAssociation " +
			"StudentProgramAssociation StudentProgramAttendanceEvent StudentProgramEvaluation StudentSchoolAttendanceEvent " +
			"StudentSchoolFoodServiceProgramAssociation StudentSection504ProgramAssociation StudentSectionAssociation " +
			"StudentSectionAttendanceEvent StudentSpecialEducationProgramAssociation StudentTitleIPartAProgramAssociation StudentTransportation " +
			"SurveyCourseAssociation SurveyProgramAssociation SurveyResponseEducationOrganizationTargetAssociation " +
			"SurveyResponseStaffTargetAssociation SurveySectionAssociation SurveySectionResponseEducationOrganizationTargetAssociation " +
			"SurveySectionResponseStaffTargetAssociation",
		eligibility: "StudentSpecialEducationProgramEligibilityAssociation",
		assessmentMetadata: "Assessment AssessmentItem AssessmentScoreRangeLearningStandard ObjectiveAssessment StudentAssessment " +
			"AssessmentAdministration AssessmentBatteryPart AssessmentAdministrationParticipation StudentAssessmentRegistration " +
			"StudentAssessmentRegistrationBatteryPartAssociation DescriptorMapping GradebookEntry EducationContent Survey SurveyQuestion " +
			"SurveyQuestionResponse SurveyResponse SurveySection SurveySectionResponse",
		educationStandards: "LearningObjective LearningStandard LearningStandardEquivalenceAssociation",
		open:               "Person Credential",
		crisisEvents:       "CrisisEvent",
		finance:            "ChartOfAccount LocalAccount LocalActual LocalBudget LocalContractedStaff LocalEncumbrance LocalPayroll",
		financeDimensions: "BalanceSheetDimension FunctionDimension FundDimension ObjectDimension OperationalUnitDimension ProgramDimension " +
			"ProjectDimension SourceDimension",
		studentHealth: "StudentHealth",
	} {
		for _, name := range strings.Fields(names) {
			groups[name] = group
		}
	}
	return groups
}

// claim returns what a shipped claim set allows with the resources of a group, nil for nothing. Strategies are the same in all sets, which
// differ in the actions they allow.
func (g claimGroup) claim(set string) Claim {
	all := g.strategies()
	allowed := []Action{Create, Read, Update, Delete}
	switch set {
	case EdFiSandbox:
		allowed = append(allowed, ReadChanges)
	default:
		switch g {
		case systemDescriptors, namespacedSystemDescriptors, types, educationOrganizations:
			allowed = []Action{Read}
		case agencies:
			allowed = []Action{Read}
			if set == DistrictHostedSISVendor {
				allowed = []Action{Read, Update}
			}
		case schools, organizationDepartments:
			if set != DistrictHostedSISVendor {
				allowed = []Action{Read}
			}
		case crisisEvents:
			if set == DistrictHostedSISVendor {
				return nil
			}
			allowed = []Action{Read, ReadChanges}
		case finance, financeDimensions, studentHealth:
			return nil
		}
	}
	c := Claim{}
	for _, a := range allowed {
		if s, ok := all[a]; ok {
			c[a] = s
		}
	}
	return c
}

// strategies are those an ODS/API 7.3 has for the resources of a group.
func (g claimGroup) strategies() Claim {
	switch g {
	case systemDescriptors, managedDescriptors, educationStandards:
		return crud(NamespaceBased, NoFurtherAuthorizationRequired)
	case namespacedSystemDescriptors, assessmentMetadata:
		return crud(NamespaceBased, NamespaceBased)
	case types:
		return Claim{Read: {NoFurtherAuthorizationRequired}, ReadChanges: {NoFurtherAuthorizationRequired}}
	case people:
		c := crud(RelationshipsWithEdOrgsAndPeople, RelationshipsWithEdOrgsAndPeople)
		c[Create], c[Delete] = []Strategy{NoFurtherAuthorizationRequired}, []Strategy{NoFurtherAuthorizationRequired}
		return c
	case primaryRelationships:
		c := crud(RelationshipsWithEdOrgsAndPeople, RelationshipsWithEdOrgsAndPeople)
		c[Create] = []Strategy{RelationshipsWithEdOrgsOnly}
		return c
	case studentContacts:
		return crud(RelationshipsWithStudentsOnly, RelationshipsWithStudentsOnly)
	case eligibility:
		c := crud(RelationshipsWithEdOrgsAndPeople, RelationshipsWithEdOrgsAndPeople)
		for _, a := range []Action{Create, Read, Update, Delete} {
			c[a] = append(c[a], RelationshipsWithStudentsOnlyThroughResponsibility)
		}
		return c
	case relationshipBasedData, organizationDepartments, finance, studentHealth:
		return crud(RelationshipsWithEdOrgsAndPeople, RelationshipsWithEdOrgsAndPeople)
	}
	return crud(NoFurtherAuthorizationRequired, NoFurtherAuthorizationRequired)
}

// crud is a claim of all actions, with one strategy for writes and one for reads.
func crud(write, read Strategy) Claim {
	return Claim{Create: {write}, Update: {write}, Delete: {write}, Read: {read}, ReadChanges: {read}}
}

// check reports what is not right with a claim set for a catalog.
func (c ClaimSet) check(cat *catalog) error {
	if c.Name == "" {
		return fmt.Errorf("a claim set has no name")
	}
	for path, claim := range c.Claims {
		if cat.byPath[path] == nil {
			return fmt.Errorf("claim set %q: there is no resource %s", c.Name, path)
		}
		for action, strategies := range claim {
			if action.index() < 0 {
				return fmt.Errorf("claim set %q: %s: there is no action %q", c.Name, path, action)
			}
			for _, s := range strategies {
				if !s.known() {
					return fmt.Errorf("claim set %q: %s: the sandbox does not have the strategy %q", c.Name, path, s)
				}
			}
		}
	}
	return nil
}
