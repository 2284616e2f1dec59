"""What is said in conversations: templates of each split, no two splits sharing one, and the values that fill them.

The pairs of name and value are divided among the splits too: the three of training are those whose numbers add up to
2, 3 or 4 modulo 5, so that every name and every value occurs in each split, and no pair in two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.data.corpus import Split

PAIR_CLASSES = 5
SPLIT_OF_CLASS: Mapping[int, Split] = {0: "test", 1: "validation", 2: "train", 3: "train", 4: "train"}

NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Ida", "Jack", "Karl", "Laura", "Mark", "Nina",
    "Oscar", "Paula", "Ralph", "Sara", "Tom", "Ursula", "Victor", "Wendy", "Xavier", "Yvonne", "Zoe",
)  # fmt: skip


@dataclass(frozen=True)
class Templates:
    """Ways to say one thing, for each split its own."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def of(self, split: Split) -> tuple[str, ...]:
        """Those of a split."""
        found: tuple[str, ...] = getattr(self, split)
        return found


@dataclass(frozen=True)
class Topic:
    """Something that people have one of: how they say it of themselves, how of others, how it is asked."""

    name: str
    values: tuple[str, ...]
    own: Templates
    others: Templates
    ask: Templates
    unseen: tuple[str, ...] = ()
    """Values that no training sequence holds."""
    answers: Mapping[str, str] = field(default_factory=dict)
    """Value -> what is said to show that one remembers it; where it is not the value itself."""

    def answer(self, value: str) -> str:
        """What shows that the value is remembered, with the space before it."""
        return f" {self.answers.get(value, value)}"

    def split_of(self, name: str, value: str) -> Split:
        """The split that a name and one of the values may occur together in."""
        values = self.values if value in self.values else self.unseen
        return SPLIT_OF_CLASS[(NAMES.index(name) + values.index(value)) % PAIR_CLASSES]


HELLO = Templates(
    ("Hi, I am {name}.", "Hello, my name is {name}.", "This is {name}, good morning."),
    ("Good evening, you hear {name} speaking.",),
    ("Greetings, they call me {name}.", "You are talking to {name}."),
)
FILLER = Templates(
    (
        "It rained all morning.", "The bus was late again.", "I slept well last night.", "The window is open.",
        "There is a new bridge in town.", "My phone is on the table.", "The road is closed today.",
        "We moved the chairs outside.", "The clock has stopped.", "Somebody left the door open.",
        "The garden needs water.", "I read the newspaper.", "The lamp is broken.", "The meeting was long.",
        "The stairs were wet.", "I found an old letter.",
    ),
    ("The kettle is boiling.", "A parcel came at noon.", "The fence fell over.", "It was a quiet week."),
    (
        "The wind was strong yesterday.", "Our neighbours are away.", "The radio plays all day.", "I lost my umbrella.",
        "The lift is out of order.", "The post arrived early.", "Two trees were cut down.", "The roof must be mended.",
    ),
)  # fmt: skip
REPLY = Templates(("I see.", "Good to know.", "Go on."), ("All right.", "Is that so?"), ("Fair enough.", "Understood."))

OWN_FAVOURITE = Templates(
    (
        "My favourite {topic} is {value}.",
        "I like {value} best of every {topic}.",
        "When it comes to a {topic}, I choose {value}.",
    ),
    ("The {topic} that I love most is {value}.",),
    ("I would pick {value} as my {topic} any day.", "No {topic} pleases me more than {value}."),
)
OTHERS_FAVOURITE = Templates(
    (
        "The favourite {topic} of {name} is {value}.",
        "As for {name}, nothing but {value} will do.",
        "When it comes to a {topic}, {name} takes {value}.",
    ),
    ("The {topic} that {name} loves most is {value}.",),
    ("Ask {name} for a {topic} and you hear {value}.", "No {topic} pleases {name} more than {value}."),
)
ASK_FAVOURITE = Templates(
    ("What is my favourite {topic}?", "Which {topic} do I like best?", "Do you remember my {topic}?"),
    ("Tell me the {topic} that I love most.",),
    ("So what {topic} would I pick?", "Can you say which {topic} pleases me?"),
)


def _favourite(name: str, values: str, unseen: str) -> Topic:
    own, others, ask = (
        Templates(*(tuple(text.replace("{topic}", name) for text in each.of(split)) for split in SPLITS_IN_ORDER))
        for each in (OWN_FAVOURITE, OTHERS_FAVOURITE, ASK_FAVOURITE)
    )
    return Topic(name, tuple(values.split()), own, others, ask, tuple(unseen.split()))


SPLITS_IN_ORDER: tuple[Split, ...] = ("train", "validation", "test")
COLOUR = _favourite(
    "colour", "red blue green yellow purple orange pink white brown grey", "black silver gold violet beige"
)
FOOD = _favourite("food", "rice soup cheese bread fish cake honey salad pizza pasta", "apples beans pie nuts stew")
CITY = _favourite(
    "city", "Paris Rome Oslo Berlin Tokyo London Cairo Madrid Lisbon Warsaw", "Vienna Lima Athens Dublin Prague"
)
PET = _favourite("pet", "cat dog horse rabbit fox bear tiger owl sheep duck", "wolf goat mouse lion whale")
FAVOURITES = (COLOUR, FOOD, CITY, PET)

WORD = Topic(
    "word",
    ("Indeed", "Well", "Surely", "Listen", "Friend", "Captain", "Dear", "Right", "Yes", "Now"),
    Templates(
        (
            "Begin every answer with the word {value}.",
            "Please start each reply with {value}.",
            "Whatever I ask, say {value} first.",
        ),
        ("Let {value} be the first word of all you say.",),
        ("I want your answers to open with {value}.", "Every reply shall have {value} in front."),
    ),
    Templates(
        ("A letter of {name} begins with the word {value}.", "A call from {name} starts with {value}."),
        ("The first word that {name} says is {value}.",),
        ("Speeches of {name} open with {value}.", "When {name} talks, it is {value} in front."),
    ),
    Templates(
        ("What time is it?", "How far is the station?", "Can you help me?"),
        ("Is the shop open?",),
        ("When does the train leave?", "Where is the library?"),
    ),
    unseen=("Truly", "Gladly", "Clearly", "Honestly", "Frankly"),
)
TONE = Topic(
    "tone",
    ("pirate", "knight", "cowboy", "judge", "monk", "sailor", "child", "poet", "ghost", "robot"),
    Templates(
        ("Talk to me like a {value}.", "Answer in the voice of a {value}.", "Play a {value} for me."),
        ("Speak as a {value} would.",),
        ("I want you to sound like a {value}.", "Reply the way a {value} does."),
    ),
    Templates(
        ("Old {name} talks like a {value}.", "In {name} I hear the voice of a {value}."),
        ("And {name} speaks as a {value} would.",),
        ("To me {name} sounds like a {value}.", "People hear a {value} when {name} replies."),
    ),
    WORD.ask,
    answers={
        "pirate": "Ahoy", "knight": "Hail", "cowboy": "Howdy", "judge": "Order", "monk": "Peace", "sailor": "Aye",
        "child": "Wow", "poet": "Lo", "ghost": "Boo", "robot": "Beep",
    },
)  # fmt: skip
JOB = Topic(
    "job",
    ("baker", "pilot", "nurse", "farmer", "singer", "lawyer", "painter", "driver", "teacher", "tailor"),
    Templates(
        ("You are {name} and work as a {value}.", "Your name is {name}, and you are a {value}."),
        ("Be {name}, who is a {value}.",),
        ("Take the part of {name}, a {value}.", "From now on you are the {value} called {name}."),
    ),
    Templates(
        ("A friend called {name} is a {value}.", "In our street {name} works as a {value}."),
        ("Do you know {name}, who is a {value}?",),
        ("My cousin {name} became a {value}.", "They say that {name} is a good {value}."),
    ),
    Templates(
        ("What is your work?", "Who are you?", "What do you do all day?"),
        ("What are you by trade?",),
        ("How do you earn your bread?", "Tell me your profession."),
    ),
    unseen=("doctor", "miner", "actor", "clerk", "chef"),
)
CONTRADICTION = Templates(
    ("You are a {value}, are you not?", "I think that you are a {value}."),
    ("So you must be a {value}.",),
    ("I was told that you are a {value}.", "Surely you work as a {value}."),
)
DENIAL = Templates(("No.", "I am not."), ("Not at all.",), ("That is wrong.", "By no means."))
TRIP = Topic(
    "trip",
    CITY.values,
    Templates(
        ("I am going to {value}.", "I have a ticket to {value}."),
        ("My train goes to {value}.",),
        ("Tomorrow I travel to {value}.", "Soon I shall leave for {value}."),
    ),
    Templates(
        ("Next week {name} is going to {value}.", "I saw that {name} has a ticket to {value}."),
        ("The train of {name} goes to {value}.",),
        ("On Friday {name} travels to {value}.", "Today {name} leaves for {value}."),
    ),
    Templates(("Where am I going?", "What is on my ticket?"), ("Where does my train go?",), ("Where do I travel to?",)),
    unseen=CITY.unseen,
)
HELP = Topic(
    "help",
    ("coding", "cooking", "music", "maths", "history", "drawing", "gardening", "chess", "singing", "physics"),
    Templates(
        ("Now help me with {value}.", "I need some help with {value} now."),
        ("My next question is about {value}.",),
        ("Let us turn to {value}.", "Teach me a little {value}, please."),
    ),
    Templates(
        ("One day {name} needs help with {value}.", "I know that {name} asks about {value}."),
        ("The questions of {name} are about {value}.",),
        ("All that {name} talks of is {value}.", "They teach {name} a little {value}."),
    ),
    Templates(
        ("What do I need help with?", "What am I asking about?"),
        ("What was my question about?",),
        ("Which subject did I turn to?", "What shall you teach me?"),
    ),
    unseen=("biology", "sewing", "grammar", "dancing", "knitting"),
)
TOPICS = (*FAVOURITES, WORD, TONE, JOB, TRIP, HELP)

PREFER = Templates(
    ("I prefer {value} to {second}.", "Give me {value} and not {second}.", "Keep your {second}, I want {value}."),
    ("I find {value} nicer than {second}.",),
    ("I would rather have {value} than {second}.", "Much as {second} is good, {value} is for me."),
)
ASK_PREFERRED = Templates(
    ("Which of them do I prefer?", "Which one do I want?"),
    ("Which one is nicer to me?",),
    ("Which would I rather have?", "Which one is for me?"),
)
ORDERED = Templates(
    ("I like {first}, {second} and {third}.", "My list is {first}, then {second}, then {third}."),
    ("Write down {first}, {second}, {third}.",),
    ("There are {first}, {second} and {third} in my book.", "I want {first}, also {second}, also {third}."),
)
PLACES = ("first", "second", "third")
ASK_ORDERED = Templates(
    ("Which did I name {place}?", "What came {place}?"),
    ("What did you hear {place}?",),
    ("Which one was {place}?", "What did I say {place}?"),
)
CORRECTION = Templates(
    ("Actually, I meant {value}.", "No, wait, it is {value}.", "Actually, it should be {value}."),
    ("Sorry, make that {value}.",),
    ("On second thought, {value} it is.", "Let me correct that to {value}."),
)
TWO = Templates(
    (
        "My {topic} is {value} and my {topic2} is {value2}.",
        "I chose {value} for a {topic} and {value2} for a {topic2}.",
    ),
    ("Note {value} as my {topic} and {value2} as my {topic2}.",),
    ("With me the {topic} is {value}, the {topic2} {value2}.", "I stand for {value} as {topic}, {value2} as {topic2}."),
)
ASK_TWO = Templates(
    ("What is my {topic}?", "Which {topic} did I choose?"),
    ("Which {topic} is noted?",),
    ("Which {topic} do I stand for?", "What {topic} is it with me?"),
)
AGE = Templates(
    ("There is {name}, who is {value}.", "The age of {name} is {value}."),
    ("And {name} turned {value}.",),
    ("This year {name} will be {value}.", "You see {name} at the age of {value}."),
)
ASK_AGE = Templates(
    ("Who is {which}?", "Which of the two is {which}?"),
    ("Name the one who is {which}.",),
    ("Of both, who is {which}?", "Say who is {which}."),
)
TEACHER = Templates(
    ("You are a good teacher of {value}.", "You teach people {value}."),
    ("Your subject is {value}.",),
    ("You have studied {value} all your life.", "Nobody knows more of {value} than you."),
)
HEADING = Templates(
    ("Conversation {letter}", "Chat {letter}"), ("Dialogue {letter}",), ("Talk {letter}", "Session {letter}")
)
THREAD = Templates(
    ("Let us discuss the {value}.", "Today we talk about the {value}."),
    ("Our subject is the {value}.",),
    ("I should like to begin with the {value}.", "Tell me all about the {value}."),
)
COMPARED = Templates(
    ("Now compare it to the {value}.", "And how is the {value} beside it?"),
    ("Put it beside the {value}.",),
    ("Hold it against the {value}.", "Is the {value} like it?"),
)
ASK_THREAD = Templates(
    ("What did we discuss?", "What was our talk about?"),
    ("What was our subject?",),
    ("What did I begin with?", "What was it all about?"),
)
EVERY = (
    HELLO, FILLER, REPLY, CONTRADICTION, DENIAL, TEACHER, HEADING, PREFER, ASK_PREFERRED, ORDERED, ASK_ORDERED,
    CORRECTION, TWO, ASK_TWO, AGE, ASK_AGE, THREAD, COMPARED, ASK_THREAD,
    *(of for topic in TOPICS for of in (topic.own, topic.others, topic.ask)),
)  # fmt: skip
"""All templates there are."""
