package limitless

// Names are made up from these lists. They hold what real rosters hold and what breaks careless software: apostrophes, hyphens, spaces,
// letters outside ASCII, and combining accents ("José" written as e + U+0301 in one list, as é in another).

func firstNamesF() []string {
	return []string{"Emma", "Olivia", "Ava", "Sofía", "Isabella", "Mia", "Amélie", "Zoë", "Chloë", "Aaliyah", "Imani", "Nevaeh", "Ximena", "Camila", "Valentina", "Lucía",
		"Mei", "Linh", "Thuỳ", "Yuki", "Sakura", "Priya", "Ananya", "Fatima", "Layla", "Noor", "Zeynep", "Agnieszka", "Zuzanna", "Małgorzata", "Siobhán", "Saoirse",
		"Niamh", "D'Asia", "Jo-Ann", "Mary Kate", "Anne-Marie", "Rene\u0301e", "Noe\u0308lle", "Grace", "Hannah", "Abigail", "Harper", "Evelyn", "Charlotte", "Naomi", "Ruth", "Ingrid", "Freya", "Åsa"}
}

func firstNamesM() []string {
	return []string{"Liam", "Noah", "Oliver", "Elijah", "James", "Lucas", "Mateo", "José", "Jose\u0301", "Ángel", "Andrés", "Nicolás", "Jesús", "Malik", "Darnell", "DeShawn",
		"Tyrone", "Minh", "Đức", "Hiroshi", "Kenji", "Wei", "Arjun", "Rohan", "Omar", "Yusuf", "Ali", "Mehmet", "Łukasz", "Paweł", "Seán", "Pádraig",
		"O'Shea", "Jean-Luc", "Juan Carlos", "Andre\u0301", "François", "Björn", "Søren", "Jürgen", "Henry", "William", "Benjamin", "Samuel", "Caleb", "Isaiah", "Ezekiel", "Thor", "Gabriel", "Ng"}
}

func lastNames() []string {
	return []string{"Smith", "Johnson", "Williams", "Brown", "Jones", "García", "Martínez", "Rodríguez", "López", "González", "Hernández", "Pérez", "Núñez", "Nu\u0301n\u0303ez", "Muñoz", "Peña",
		"O'Brien", "O'Connor", "D'Angelo", "Ó Súilleabháin", "McDonald", "MacLeod", "St. John", "Van der Berg", "de la Cruz", "Smith-Jones", "García-López", "Nguyễn", "Trần", "Phạm", "Lê", "Wang",
		"Li", "Zhang", "Chen", "Kim", "Park", "Tanaka", "Satō", "Patel", "Singh", "Khan", "Hussain", "Al-Rashid", "Yılmaz", "Öztürk", "Şahin", "Kowalski",
		"Wiśniewski", "Wójcik", "Dvořák", "Novák", "Müller", "Schröder", "Weiß", "Lindström", "Åkesson", "Sørensen", "Bjørnsen", "Lefèvre", "Dubois", "Be\u0301langer", "Okafor", "Adébáyò",
		"Mensah", "Washington", "Jefferson", "Jackson", "Robinson", "Walker", "Young", "Allen", "King", "Wright", "Hill", "Scott", "Green", "Baker", "Adams", "Nelson",
		"Carter", "Mitchell", "Roberts", "Turner", "Phillips", "Campbell", "Parker", "Evans", "Edwards", "Collins", "Stewart", "Morris", "Begay", "Yazzie", "Kahananui", "Kealoha", "Vargas-Ibáñez", "Wu", "Ho", "Ek"}
}

func streetNames() []string {
	return []string{"Main St", "Oak Ave", "Maple Dr", "Cedar Ln", "2nd St", "Elm St", "Washington Blvd", "Lake Rd", "Hill Rd", "Park Ave", "River Rd", "Sunset Blvd", "Church St", "N. 5th St", "Calle de la Paz", "O'Hare Ct"}
}

func schoolNames() []string {
	return []string{"Lincoln", "Jefferson", "Sally Ride", "César Chávez", "Riverside", "Oakwood", "Rosa Parks", "Hillcrest", "Ellen Ochoa", "Frederick Douglass", "Mae Jemison", "Cedar Grove",
		"Dolores Huerta", "Prairie View", "Harriet Tubman", "Lakeshore"}
}

// city is a place of the district's area: name, ZIP code, county.
type city struct{ name, zip, county string }

func cities() []city {
	return []city{{"Riverbend", "78741", "Travis"}, {"Riverbend", "78742", "Travis"}, {"Cañon Alto", "78738", "Travis"}, {"St. Anne", "78610", "Hays"}, {"Winston-on-the-Lake", "78645", "Travis"}}
}
