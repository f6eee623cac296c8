//! The words that names, titles and texts are made of. Changing one changes every byte that is made with it.

/// Given names.
pub const FIRST_NAMES: [&str; 64] = [
    "Ada", "Alban", "Amara", "Anselm", "Aveline", "Basil", "Beatrix", "Bram", "Carys", "Casimir",
    "Clemence", "Corin", "Dagny", "Darius", "Delphine", "Edmund", "Eilidh", "Elspeth", "Emeric",
    "Farah", "Fenella", "Florian", "Gareth", "Gisela", "Greta", "Hamish", "Hedda", "Hollis",
    "Ianthe", "Idris", "Ilse", "Imogen", "Jarek", "Jocasta", "Jorah", "Kamal", "Katya", "Kestrel",
    "Lavinia", "Leopold", "Linnea", "Lucan", "Magnus", "Marisol", "Mirren", "Nadir", "Nerys",
    "Octavia", "Orsolya", "Osric", "Petra", "Quillon", "Rafferty", "Rosalba", "Saoirse", "Selim",
    "Tamsin", "Thaddeus", "Ulrika", "Valter", "Winifred", "Yusuf", "Zelda", "Zoran",
];

/// First halves of family names.
pub const NAME_HEADS: [&str; 24] = [
    "Ash", "Black", "Bracken", "Cold", "Crane", "Dun", "Elder", "Fair", "Green", "Harrow", "Iron",
    "Kettle", "Lark", "Mac", "Marsh", "North", "O'", "Pem", "Quick", "Raven", "Silver", "Thorn",
    "Under", "Winter",
];

/// Second halves of family names.
pub const NAME_TAILS: [&str; 24] = [
    "berry", "born", "bourne", "bridge", "combe", "cott", "croft", "dale", "field", "ford", "grave",
    "hallow", "ingham", "keld", "leigh", "low", "mere", "ridge", "shaw", "stead", "thwaite", "ward",
    "well", "wick",
];

/// What comes before some authors' names.
pub const HONORIFICS: [&str; 4] = [
    "Dr. ", "Ms. ", "The Hon. ", "Rev. ",
];

/// What comes after some authors' names.
pub const SUFFIXES: [&str; 5] = [
    " PhD", " II", " IV", " DDS", " Jr.",
];

/// Last parts of email domains.
pub const TOP_LEVELS: [&str; 8] = [
    "biz", "co", "com", "info", "io", "name", "net", "org",
];

/// Adjectives of titles.
pub const ADJECTIVES: [&str; 96] = [
    "Abandoned", "Amber", "Ancient", "Autumn", "Bitter", "Borrowed", "Brazen", "Bright", "Broken",
    "Burning", "Careless", "Cobalt", "Copper", "Crimson", "Crooked", "Crystal", "Curious",
    "Dancing", "Daring", "Distant", "Drowned", "Dusty", "Eastern", "Electric", "Elusive", "Emerald",
    "Empty", "Endless", "Faded", "Faithful", "Falling", "Feathered", "Final", "Flooded",
    "Forgotten", "Forsaken", "Fragile", "Frozen", "Gentle", "Gilded", "Glass", "Golden", "Granite",
    "Hidden", "Hollow", "Honest", "Hungry", "Imperial", "Indigo", "Invisible", "Ivory", "Jade",
    "Last", "Laughing", "Leaden", "Lonely", "Lost", "Lucky", "Marble", "Merry", "Moonlit", "Narrow",
    "Nameless", "Northern", "Opal", "Painted", "Pale", "Paper", "Patient", "Perfect", "Purple",
    "Quiet", "Radiant", "Restless", "Rusty", "Sacred", "Scarlet", "Secret", "Seventh", "Shadowed",
    "Silent", "Sleeping", "Solemn", "Southern", "Stolen", "Stubborn", "Sunken", "Tender", "Thirsty",
    "Twisted", "Velvet", "Violet", "Wandering", "Western", "Wicked", "Wooden",
];

/// Nouns of titles.
pub const NOUNS: [&str; 96] = [
    "Abbey", "Anchor", "Archive", "Arrow", "Attic", "Balcony", "Ballad", "Beacon", "Bell", "Bridge",
    "Caravan", "Carnival", "Cartographer", "Castle", "Cellar", "Chapel", "Clockmaker", "Comet",
    "Compass", "Corridor", "Courier", "Crossing", "Crown", "Desert", "Door", "Echo", "Ember",
    "Envelope", "Falcon", "Ferry", "Fiddler", "Forest", "Fountain", "Frontier", "Garden", "Gate",
    "Glacier", "Harbour", "Harvest", "Horizon", "Horseman", "Hotel", "Island", "Island Express",
    "Journey", "Juggler", "Kingdom", "Labyrinth", "Ladder", "Lantern", "Library", "Lighthouse",
    "Locket", "Machine", "Map", "Market", "Meadow", "Mirror", "Monsoon", "Mountain", "Musician",
    "Needle", "Notebook", "Oasis", "Observatory", "Orchard", "Painter", "Parade", "Passage",
    "Pearl", "Pilgrim", "Planet", "Prophecy", "Railway", "Reef", "Riddle", "River", "Sailor",
    "Schoolhouse", "Season", "Signal", "Sparrow", "Staircase", "Station", "Storm", "Telegram",
    "Theatre", "Tide", "Tower", "Traveller", "Treasure", "Valley", "Violin", "Voyage", "Widow",
    "Winter Palace",
];

/// Languages that movies were made in.
pub const LANGUAGES: [&str; 24] = [
    "Arabic", "Basque", "Bengali", "Catalan", "Danish", "Dutch", "English", "Finnish", "French",
    "German", "Greek", "Hindi", "Icelandic", "Italian", "Japanese", "Korean", "Malay", "Norwegian",
    "Polish", "Portuguese", "Spanish", "Swahili", "Turkish", "Welsh",
];

/// Publishers of books.
pub const PUBLISHERS: [&str; 20] = [
    "Amberline Press", "Blackbird & Daughters", "Capstan Books", "Dovecote House", "E. R. Quill",
    "Fernhill & Co.", "Gantry Editions", "Hearthstone", "Inkwell Row", "Juniper Lane Publishing",
    "Kiln Street Press", "Longboat", "Merchant & Sons", "Nightjar Books", "Old Mill Press",
    "Paper Lantern", "Quarto Yard", "Riverside Presse d'Or", "Saltmarsh", "Twelve Oaks",
];

/// Nationalities, as labels carry them. One author in forty of those made from a number is of the first.
pub const NATIONALITIES: [&str; 40] = [
    "Singaporeans", "Argentines", "Australians", "Austrians", "Bahamians", "Basques", "Brazilians",
    "Bulgarians", "Cape Verdeans", "Chileans", "Côte d'Ivoirians", "Croats", "Danes", "Dutch",
    "Ecuadorians", "Egyptians", "Estonians", "Filipinos", "Finns", "French", "Georgians", "Germans",
    "Ghanaians", "Greeks", "Hungarians", "Icelanders", "Indonesians", "Italians", "Jamaicans",
    "Kenyans", "Malaysians", "Moldovans (Romanian)", "Nepalis", "Norwegians", "Poles", "Samoans",
    "São Toméans", "Senegalese", "Welsh", "Zambians",
];

/// Words of review texts: Latin by its looks only.
pub const LATIN: [&str; 80] = [
    "abundo", "acervus", "adipiscor", "aeternus", "alveus", "ambulo", "ancilla", "antiquus",
    "aperio", "arbor", "argentum", "asperitas", "auctor", "balneum", "benigne", "blandior",
    "caelum", "calamus", "candidus", "carmen", "castellum", "celeriter", "cervus", "clarus",
    "columba", "comitatus", "conscendo", "cornu", "cotidie", "cupiditas", "decorus", "delecto",
    "diligens", "domus", "dulcis", "egregius", "eloquens", "epistula", "exsilium", "fabula",
    "facundus", "fenestra", "fidelis", "flumen", "fortuna", "frumentum", "gaudium", "gravitas",
    "hiberna", "hortus", "imperium", "insula", "iucundus", "labor", "lacrima", "lapideus",
    "libertas", "litterae", "lumen", "magister", "mirabilis", "moenia", "narratio", "nebula",
    "obscurus", "officina", "otium", "pallidus", "peregrinus", "pluvia", "porticus", "prudens",
    "quercus", "rosarium", "sapientia", "silva", "tempestas", "umbra", "ventus", "vestigium",
];
