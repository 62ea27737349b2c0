import pytest

from tfl_research.tasks.built_in.play_texts import is_group, normalised_role, speeches

UPPER = """THE COMEDY OF TESTS

by Nobody

PERSONS REPRESENTED.

KING OF NOWHERE.
ANNA, his Daughter.

ACT I.

SCENE I. Nowhere. A Room in the KING'S Palace.

[Enter KING and ANNA, with
attendants.]

KING.
Good  day, my child; [To himself.] how
like her mother!

[Flourish.]

We thank thee.

ANNA.
[Kneeling.] My lord!

FIRST LORD.
They come.

ANNA.
Who comes?

KING. Peace, I say.

ALL.
Hail!

KING AND ANNA.
Hail to you.

1. LORD.
Now go.

[Exeunt.]

SCENE II. Another Room.

A painted hall.

ANNA
Alone at last.

[Exit ANNA.

Enter KING, reading.]

KING.
Where is she?

THE END
"""


def test_upper_case_cues_directions_groups_and_headings():
    assert speeches(UPPER) == {
        "KING": [
            "Good day, my child; how\nlike her mother!\nWe thank thee.",
            "Peace, I say.",
            "Where is she?",
        ],
        "ANNA": ["My lord!", "Who comes?", "Alone at last."],
        "FIRST LORD": ["They come.", "Now go."],
    }


MIXED = """Persons Represented.

Lear, King of Britain.

ACT I.
Scene I. A Palace.

[Enter Kent.]

Kent.
I thought the King had more affected the Duke.

Lady Capulet.
What say you?

1 Watch.
HERE is the place.

Kent.
Is not this he?

[He points.]

Nothing else.

Osw. Ay, madam.

Osw.
So please you.

Kent and Osw.
Farewell.
"""


def test_capitalised_cues():
    assert speeches(MIXED) == {
        "KENT": [
            "I thought the King had more affected the Duke.",
            "Is not this he?\nNothing else.",
        ],
        "LADY CAPULET": ["What say you?"],
        "FIRST WATCH": ["HERE is the place."],
        "OSW": ["Ay, madam.", "So please you."],
    }


def test_cues_without_a_full_stop_songs_and_missing_brackets():
    text = """ACT II.

PUCK
  Captain of our band,
  Helena is here at hand.

SONG

I
  Over hill, over dale. Exit

OBERON
Stand aside: {Aside.] the noise.

Re-enter TITANIA, with her train.

Enter Bottom, with an ass's head
and others.]

TITANIA
What angel wakes me? [Wakes

PUCK
Lord!
"""
    assert speeches(text) == {
        "PUCK": [
            "Captain of our band,\nHelena is here at hand.\nOver hill, over dale.",
            "Lord!",
        ],
        "OBERON": ["Stand aside: the noise."],
        "TITANIA": ["What angel wakes me?"],
    }


def test_aliases_join_two_cues_of_one_role():
    text = "ACT I.\n\nMARCIUS.\nOne.\n\nCORIOLANUS.\nTwo.\n"
    assert speeches(text, {"MARCIUS": "CORIOLANUS"}) == {"CORIOLANUS": ["One.", "Two."]}


def test_a_prologue_is_a_role_only_when_it_speaks():
    text = "PROLOGUE.\n\n[Enter Chorus.]\n\nUnclaimed.\n\nPROLOGUE.\nO for a Muse.\n"
    assert speeches(text) == {"PROLOGUE": ["O for a Muse."]}


def test_text_without_cues_has_no_roles():
    assert (
        speeches("Sonnet the first\n\nShall I compare thee to a summer's day?\n") == {}
    )


@pytest.mark.parametrize(
    ("cue", "role"),
    [
        ("HAMLET.", "HAMLET"),
        ("1 Clown.", "FIRST CLOWN"),
        ("2. CAR.", "SECOND CAR"),
        ("I Player.", "FIRST PLAYER"),
        ("P. Queen.", "P QUEEN"),
        ("Lady  Montague.", "LADY MONTAGUE"),
        ("APPARITION. --", "APPARITION"),
    ],
)
def test_normalised_role(cue, role):
    assert normalised_role(cue) == role


@pytest.mark.parametrize(
    ("role", "group"),
    [
        ("ALL", True),
        ("BOTH TRIBUNES", True),
        ("HOR AND MAR", True),
        ("GREY, SCROOP", True),
        ("QUINTUS & MARTIUS", True),
        ("SOME OTHER", True),
        ("ANDROMACHE", False),
        ("HALL", False),
        ("MOTHER", False),
    ],
)
def test_is_group(role, group):
    assert is_group(role) == group
