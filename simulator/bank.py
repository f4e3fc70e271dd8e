"""What the pseudo-model has to say: sentences with slots, lists, code, other scripts.

Each entry is one *segment*: it stands by itself, begins with a space or a line break, and may follow any other.
`{name}` is filled from `SLOTS`, `{topic}` from the question.
"""

from __future__ import annotations

from typing import Final

__all__ = ["BLOCKS", "DULL", "FOREIGN", "OPENERS", "SENTENCES", "SLOTS"]

SLOTS: Final[dict[str, tuple[str, ...]]] = {
    "thing": (
        "the river", "a narrow channel", "the mill wheel", "the old lock", "a steady current", "the harbour",
        "the gate", "a small reservoir", "the ferry", "the tide", "a mountain spring", "the canal", "the weir",
        "the lighthouse",
    ),
    "does": (
        "carries", "slows", "feeds", "shapes", "remembers", "outlives", "gathers", "divides", "steadies", "answers",
    ),
    "object": (
        "the morning light", "every barge behind it", "a whole town", "the quiet fields", "more than it seems to",
        "the weight of the rain", "its own small weather", "the last of the snow", "a week of patience",
        "the noise of the road",
    ),
    "time": (
        "At first", "By the evening", "After the rain", "Most days", "In the early spring", "Now and then",
        "Long before the bridge was built", "Once the fog lifts", "On market days", "When the wind turns",
    ),
    "who": (
        "the keeper", "a patient engineer", "the miller", "an old sailor", "the cartographer", "a curious child",
        "the gardener", "the night watch", "a travelling clockmaker", "the pilot",
    ),
    "learns": (
        "learns", "knows", "writes down", "notices", "explains", "measures", "finds out", "likes to say",
    ),
    "fact": (
        "that a pause costs less than a spill", "that slow water still arrives",
        "how little is lost when nothing hurries",
        "that the gate matters more than the flood", "that every stream has a bank",
        "why the second pump is never idle",
        "that a bucket has a bottom", "how far a small leak can travel", "that order is kept by those who wait",
        "that the shortest path is not always open",
    ),
    "quality": (
        "simple", "calm", "useful", "stubborn", "honest", "careful", "bright", "unhurried", "sturdy", "modest",
    ),
    "place": (
        "below the bridge", "at the edge of town", "between two hills", "beside the orchard", "under the arches",
        "past the third lock", "near the estuary", "along the towpath",
    ),
    "number": ("two", "three", "four", "five", "seven", "nine", "a dozen", "twenty"),
    "tool": ("a lantern", "a brass valve", "a notebook", "a length of rope", "a spirit level", "a tin kettle"),
}  # fmt: skip

OPENERS: Final = (
    "You asked about {topic}. This is the simulator speaking, so enjoy the flow rather than the facts.",
    "Here is a simulated answer about {topic}, made of steady little sentences.",
    "On {topic}: no real model is running here, but the stream is real, and it goes like this.",
    "Let us talk about {topic}. The words come from a simulator; the pace is what you are here to feel.",
)

SENTENCES: Final = (
    " {time}, {thing} {does} {object}.",
    " {time}, {who} {learns} {fact}.",
    " {thing:C} {place} {does} {object}, and nobody minds.",
    " It is one {quality} arrangement: {thing} {does} {object}, while {who} {learns} {fact}.",
    " {who:C} keeps {tool} {place} and {learns} {fact}.",
    " There are {number} reasons for this, and the {quality} one is {fact}.",
    " What looks {quality} from the shore is {quality} work in the water.",
    " Nothing is lost; {thing} simply {does} {object} a little later.",
    " If {thing} rises, {who} opens the gate by {number} turns and waits.",
    " {time}, one can hear {thing} {place} long before one sees it.",
    " Ask {who}, and you will hear {fact}.",
    " {thing:C} needs {number} things: one {quality} bed, a gate that closes, and {tool}.",
    " So {topic} is one {quality} matter after all, much like {thing} {place}.",
    " {time}, {number} boats pass {place}, each one as {quality} as the last.",
    " That is why {thing} {does} {object}.",
    " The {quality} part comes first; the {quality} part takes {number} days.",
    " “Keep it {quality},” {who} would say, and reach for {tool}.",
    " Some call it luck; {who} calls it {tool} and {number} years of practice.",
    " In short, {thing} {does} {object}, and {who} {learns} {fact}.",
    " With {topic} it is the same: start {quality}, stay {quality}, and leave room for the rain.",
)

BLOCKS: Final = (
    "\n\n{time}, {who} {learns} {fact}.",
    "\n\n{thing:C} {does} {object}. That much is {quality}.",
    "\n\nBack to {topic}. {time}, {thing} {does} {object}.",
    "\n\nOne {quality} aside: {who} once carried {tool} {place} for {number} days.",
    (
        "\n\nThree things are worth keeping in mind:\n\n- {thing} {does} {object};\n- {who} {learns} {fact};\n"
        "- {quality} beats clever.\n\nThe rest is detail."
    ),
    (
        "\n\nThe recipe is {quality}:\n\n1. Find {tool}.\n2. Walk {place}.\n"
        "3. Wait until {thing} {does} {object}.\n\nThen begin again, a little slower."
    ),
    (
        "\n\nIn code it would look like this:\n\n```python\nasync def flow(source, sink):\n"
        "    async for drop in source:\n        await sink.send(drop)  # waits when the sink is full\n```\n\n"
        "Nothing more is needed for {thing}."
    ),
    '\n\n```json\n{"gate": "open", "level_cm": 142, "keeper": "{quality}"}\n```\n\nSo {who} would report it.',
    "\n\n> {who:C} {learns} {fact}.\n\nIt hangs on the wall {place}, and it is {quality} advice.",
)

FOREIGN: Final = (
    " In Japanese one says 流れる水は腐らず: flowing water does not go stale. 🌊",
    " In Chinese there is 水滴石穿, “dripping water wears through stone”, which suits {topic}. 💧",
    " A Greek would add πάντα ῥεῖ, everything flows. 🏺",
    " По-русски: тише едешь — дальше будешь.",
    " On the towpath you may see 🚣‍♀️, 🦆 and, with luck, 🐢.",
    " Auf Deutsch heißt es: „Stille Wasser gründen tief.“",
    " In Arabic, قطرة قطرة يصبح نهرا: drop by drop it becomes a river.",
    " हिन्दी में: बूँद-बूँद से सागर भरता है।",
    " 한국어로는 “천 리 길도 한 걸음부터”라고 합니다. 👣",
)

#: Words that a question is never about.
DULL: Final = frozenset((
    "about", "above", "after", "again", "also", "answer", "because", "been", "before", "being", "between", "both",
    "could", "does", "doing", "done", "each", "explain", "from", "give", "have", "having", "hello", "here", "into",
    "just", "like", "list", "long", "make", "many", "more", "most", "much", "only", "other", "over", "paragraph",
    "please", "poem", "question", "really", "same", "sentence", "sentences", "short", "should", "show", "some",
    "story", "such", "tell", "than", "thank", "thanks", "that", "their", "them", "then", "there", "these", "they",
    "thing", "things", "this", "those", "through", "under", "until", "very", "want", "well", "were", "what", "when",
    "where", "which", "while", "will", "with", "words", "would", "write", "your", "yours",
))  # fmt: skip
