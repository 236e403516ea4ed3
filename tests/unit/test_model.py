import pytest
from hypothesis import given
from hypothesis import strategies as st

from baozi.errors import NotABaozi, UsageError
from baozi.model import Baozi, Closing, checked_name

GOOD: dict[object, object] = {"run": "course", "producer": "egon", "number": 0, "made_at": 1.5}
GOOD_ORDER: dict[object, object] = {
    "run": "course",
    "producer": "egon",
    "accepted": 10,
    "attempted": 11,
    "closed_at": 1.5,
}
#: As a producer sends it now: with an id, its session, and the numbers whose outcome is unknown.
NAMED_ORDER = GOOD_ORDER | {"order": "0f" * 16, "session": 2, "unknown": [[3, 3]]}

#: What no name may be, and what is said of it.
BAD_NAMES = [
    ("", "is empty"),
    ("x" * 61, "is over 60 characters long"),
    ("x" * 300, "is over 60 characters long"),
    ("a/b", "must not contain '/', which separates the parts of a baozi's id"),
    (".hidden", "must not start with '.', because it is used as a file name"),
    ("..", "must not start with '.', because it is used as a file name"),
    ("a\nb", "must not contain control characters"),
    ("a\0", "must not contain control characters"),
    ("a\x1b[2J", "must not contain control characters"),
    ("a\u2028b", "must not contain control characters"),
    ("\ud800", "should be a valid string"),
]
BAD_NUMBERS: list[tuple[object, str]] = [
    (-1, "should be greater than or equal to 0"),
    ("1", "should be a valid integer"),
    (1.0, "should be a valid integer"),
    (True, "should be a valid integer"),
    (None, "should be a valid integer"),
    (2**63, f"should be less than {2**63}"),
    (10**4000, f"should be less than {2**63}"),
]
BAD_TIMES: list[tuple[object, str]] = [
    (-0.1, "should be greater than or equal to 0"),
    ("1.5", "should be a valid number"),
    (None, "should be a valid number"),
    (float("nan"), "should be a finite number"),
    (float("inf"), "should be a finite number"),
]

names = st.text(st.characters(exclude_characters="/", exclude_categories=["C", "Z"]), min_size=1, max_size=9)
names = names.filter(lambda name: not name.startswith("."))
baozis = st.builds(
    Baozi,
    run=names,
    producer=names,
    number=st.integers(0, 2**63 - 1),
    made_at=st.floats(0, allow_infinity=False),
)


def refusal(data: object, kind: type[Baozi] | type[Closing] = Baozi) -> str:
    with pytest.raises(NotABaozi) as caught:
        kind.parse(data)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert sentence.isprintable(), "one sentence on one line"
    assert len(sentence) < 200
    assert "pydantic" not in sentence
    return sentence


@pytest.mark.parametrize("field", ["run", "producer"])
@pytest.mark.parametrize(("name", "says"), BAD_NAMES)
def test_a_baozi_with_a_bad_name_is_refused_by_field(field: str, name: str, says: str) -> None:
    assert refusal(GOOD | {field: name}).startswith(f"Not a baozi: {field} {says}")


@pytest.mark.parametrize(("number", "says"), BAD_NUMBERS)
def test_a_baozi_with_a_bad_number_is_refused_by_field(number: object, says: str) -> None:
    assert refusal(GOOD | {"number": number}).startswith(f"Not a baozi: number {says}")


@pytest.mark.parametrize(("time", "says"), BAD_TIMES)
def test_a_baozi_with_a_bad_time_is_refused_by_field(time: object, says: str) -> None:
    assert refusal(GOOD | {"made_at": time}).startswith(f"Not a baozi: made_at {says}")


@pytest.mark.parametrize("field", list(GOOD))
def test_a_missing_field_is_named(field: str) -> None:
    lacking = {name: value for name, value in GOOD.items() if name != field}
    assert refusal(lacking) == f"Not a baozi: {field} is missing."


@pytest.mark.parametrize(
    ("field", "shown"),
    [("colour", "colour"), ("a\nb", "'a\\nb'"), ("包子", "包子"), ("x" * 10**6, "x" * 60 + "…")],
)
def test_a_field_too_many_is_named_however_strange_its_name(field: str, shown: str) -> None:
    assert refusal(GOOD | {field: 1}) == f"Not a baozi: {shown} is a field too many."


def test_a_field_name_that_is_no_string_is_refused() -> None:
    assert refusal(GOOD | {3: 1}) == "Not a baozi: 3 is a field whose name is not a string."


@pytest.mark.parametrize("data", [None, 0, "baozi", [], [GOOD], b"\x00"])
def test_an_argument_that_is_not_an_object_is_not_a_baozi(data: object) -> None:
    assert refusal(data) == "Not a baozi: should be a valid dictionary of named fields."
    assert refusal(data, Closing) == "Not an order: should be a valid dictionary of named fields."


@pytest.mark.parametrize("field", ["accepted", "attempted"])
@pytest.mark.parametrize(("number", "says"), BAD_NUMBERS)
def test_an_order_with_a_bad_number_is_refused_by_field(field: str, number: object, says: str) -> None:
    assert refusal(GOOD_ORDER | {field: number}, Closing).startswith(f"Not an order: {field} {says}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"run": "a/b"}, "run must not contain '/'"),
        ({"producer": ""}, "producer is empty"),
        ({"closed_at": float("inf")}, "closed_at should be a finite number"),
        ({"attempted": 9}, "attempted is less than accepted"),
        ({"number": 1}, "number is a field too many"),
    ],
)
def test_an_order_with_a_bad_field_is_refused_by_field(change: dict[object, object], says: str) -> None:
    assert refusal(GOOD_ORDER | change, Closing).startswith(f"Not an order: {says}")


def test_good_ones_are_read_back_as_they_were_written() -> None:
    baozi = Baozi.parse(GOOD)
    assert baozi.argument == GOOD
    for written in (GOOD_ORDER, NAMED_ORDER):
        assert Closing.parse(written).argument == written
    assert Baozi.model_validate_json(baozi.model_dump_json()) == baozi


@pytest.mark.parametrize("of", ["run", "producer"])
@pytest.mark.parametrize(("name", "says"), BAD_NAMES)
def test_a_bad_name_on_the_command_line_is_a_usage_error_that_says_whose(
    of: str, name: str, says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        checked_name(name, of)
    assert str(caught.value).startswith(f"The {of}'s name {says}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a", "x" * 60, "包" * 60, "小红", "an apple", "a.b", "2026-07-01"])
def test_a_valid_name_is_returned_and_is_a_file_name(name: str) -> None:
    assert checked_name(name, "run") == name
    assert len(f"{name}.journal".encode()) <= 255


def test_the_task_id_stays_the_same_in_every_release() -> None:
    # Literal: with another id, a baozi that is put again after an update would be another task.
    assert Baozi.parse(GOOD).id == "course/egon/0"
    assert Baozi.parse(GOOD).task_id == "c486908d-4cbe-5557-a496-8c6cdf11307a"
    assert Closing.parse(GOOD_ORDER | {"attempted": 10}).task_id == "cd786398-fe8f-5db5-a089-dc837d764c94"


@given(baozi=baozis, time=st.floats(0, allow_infinity=False))
def test_the_same_baozi_made_at_another_time_is_the_same_task(baozi: Baozi, time: float) -> None:
    assert baozi.model_copy(update={"made_at": time}).task_id == baozi.task_id


@given(one=baozis, other=baozis)
def test_two_different_baozi_never_share_an_id(one: Baozi, other: Baozi) -> None:
    same = (one.run, one.producer, one.number) == (other.run, other.producer, other.number)
    assert (one.id == other.id) is same
    assert (one.task_id == other.task_id) is same


@given(letters=st.lists(st.sampled_from(["a", "1", "order", "-", " "]), min_size=3, max_size=3))
def test_names_that_look_alike_when_joined_differ(letters: list[str]) -> None:
    one, two, three = letters
    joined = Baozi(run=one + two, producer=three, number=1, made_at=0.0)
    parted = Baozi(run=one, producer=two + three, number=1, made_at=0.0)
    assert (joined.task_id == parted.task_id) is ((one + two, three) == (one, two + three))


def test_no_order_is_the_same_task_as_a_baozi() -> None:
    # "run/producer/order/10/10" has five parts, and a baozi's id has three: no name holds a '/'.
    ids = {Baozi.parse(GOOD | {"number": number}).task_id for number in range(20)}
    orders = {Closing.parse(GOOD_ORDER | {"accepted": n, "attempted": n}).task_id for n in range(20)}
    assert len(ids) == len(orders) == 20
    assert not ids & orders


def test_the_lines_are_the_courses() -> None:
    baozi = Baozi.parse(GOOD)
    assert baozi.made_line == "egon生产了第0个包子"
    assert baozi.eaten_line("小红") == "小红吃了egon生产了第0个包子"
