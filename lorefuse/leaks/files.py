"""Names of files with what was measured; light to import."""

MEMBERSHIP_FILE, LEAKS_FILE, LEAKS_PAGE = "membership.json", "leaks.json", "leaks.html"
