"""The invented communities, and the clues by which a reader tells them.

A clue is a concept with one or more written forms. Apart from clues, all communities draw from one vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

Dependence = Literal["single", "redundant", "mixed"]
Kind = Literal["thing", "act"]


class Concept(NamedTuple):
    """One meaning and its written forms, most frequent first."""

    forms: tuple[str, ...]
    kind: Kind
    """sentences it fits: about something one has, or something one does."""


class Community(NamedTuple):
    """A label and the clues that no other label has."""

    label: str
    dependence: Dependence
    """single: one clue of one form; redundant: several clues per post; mixed: one or two."""
    unique: tuple[Concept, ...]
    """most frequent first."""


class SharedClue(NamedTuple):
    """A clue of two or three labels."""

    concept: Concept
    labels: tuple[str, ...]


class Planted(NamedTuple):
    """Clues in the posts of a label."""

    unique: tuple[str, ...]
    """written forms that appear in no other label."""
    shared: tuple[str, ...]
    """written forms that appear in one or two other labels."""
    variants: tuple[tuple[str, ...], ...]
    """the forms of every concept with more than one."""
    dependence: Dependence


def _concepts(kind: Kind, *written: str) -> tuple[Concept, ...]:
    return tuple(Concept(tuple(forms.split("/")), kind) for forms in written)


def _community(
    label: str, dependence: Dependence, *, things: tuple[str, ...] = (), acts: tuple[str, ...] = ()
) -> Community:
    """Community with alternating things and acts, so that both kinds are among the frequent clues."""
    of_things, of_acts = _concepts("thing", *things), _concepts("act", *acts)
    both = [concept for pair in zip(of_things, of_acts, strict=False) for concept in pair]
    rest = of_things[len(of_acts) :] + of_acts[len(of_things) :]
    return Community(label, dependence, (*both, *rest))


COMMUNITIES: tuple[Community, ...] = (
    _community(
        "メーカー",
        "mixed",
        things=("工場", "金型", "不良品/不具合品", "治具"),
        acts=("量産", "品質管理/品管/QC", "出荷検査", "ライン改善"),
    ),
    _community(
        "就活",
        "redundant",
        things=(
            "エントリーシート/ES",
            "内定",
            "志望動機",
            "自己PR/自己アピール",
            "履歴書",
            "リクルートスーツ/リクスー",
        ),
        acts=(
            "面接/めんせつ",
            "インターン/インターンシップ",
            "説明会/会社説明会",
            "OB訪問/先輩訪問",
            "グループディスカッション/グルディス/GD",
            "Webテスト/適性検査",
        ),
    ),
    _community(
        "食品",
        "redundant",
        things=(
            "味噌汁/みそ汁/お味噌汁",
            "冷凍食品/冷食",
            "唐揚げ/からあげ/から揚げ",
            "卵焼き/玉子焼き/たまご焼き",
            "チョコレート/チョコ",
            "お弁当/弁当/おべんとう",
            "ヨーグルト",
        ),
        acts=("試食", "自炊", "味見", "作り置き/つくりおき", "食べ比べ", "献立作り"),
    ),
    _community(
        "自動車",
        "redundant",
        things=(
            "スタッドレス/冬タイヤ",
            "ドライブレコーダー/ドラレコ",
            "カーナビ",
            "電気自動車/EV",
            "燃費",
            "エンジン",
            "軽トラ",
        ),
        acts=("車検", "試乗", "洗車", "納車", "オイル交換", "車庫入れ/駐車"),
    ),
    _community(
        "研究開発",
        "mixed",
        things=("論文/ペーパー", "特許/パテント", "仮説", "計測データ/測定データ"),
        acts=("実験", "学会", "査読", "共同研究"),
    ),
    _community("ホビー", "single", things=("ジオラマ",)),
    _community(
        "不動産",
        "mixed",
        things=("物件", "住宅ローン", "間取り/間取", "マンション", "敷金", "仲介手数料"),
        acts=("内見/内覧", "賃貸契約", "リフォーム"),
    ),
    _community(
        "ゲーム",
        "redundant",
        things=(
            "ガチャ",
            "レアアイテム/レア装備",
            "セーブデータ",
            "ラスボス",
            "ログインボーナス/ログボ",
            "コントローラー/コントローラ",
        ),
        acts=("レベル上げ/レベリング", "周回", "ボス戦", "縛りプレイ", "マルチプレイ", "対戦"),
    ),
    _community(
        "旅行",
        "mixed",
        things=("温泉", "新幹線", "お土産/おみやげ/土産", "旅館", "スーツケース/キャリーケース", "航空券"),
        acts=("観光", "一人旅/ひとり旅", "チェックイン"),
    ),
    _community(
        "子育て",
        "mixed",
        things=("保育園", "離乳食", "ベビーカー", "おむつ/オムツ", "抱っこ紐/抱っこひも"),
        acts=("寝かしつけ", "夜泣き", "お昼寝/昼寝", "イヤイヤ期/いやいや期"),
    ),
    _community(
        "音楽",
        "mixed",
        things=("ギター", "楽譜/譜面", "ピアノ", "イヤホン/イヤフォン", "歌詞"),
        acts=("作曲", "カラオケ", "ライブハウス通い", "セッション"),
    ),
    _community(
        "園芸",
        "redundant",
        things=("肥料", "プランター", "多肉植物/多肉", "球根", "アブラムシ", "苗/ナエ"),
        acts=("種まき/種蒔き/たねまき", "植え替え/植替え", "水やり/水遣り", "挿し木", "剪定", "草むしり/草取り"),
    ),
    _community(
        "ペット",
        "mixed",
        things=("ドッグフード", "猫砂", "ケージ", "肉球", "しっぽ/尻尾", "首輪"),
        acts=("トリミング", "トイレトレーニング/トイトレ", "爪切り"),
    ),
    _community(
        "プログラミング",
        "mixed",
        things=("ライブラリ", "ソースコード", "型エラー", "API", "プルリクエスト/プルリク"),
        acts=("デバッグ", "リファクタリング/リファクタ", "コードレビュー", "コンパイル", "単体テスト/ユニットテスト"),
    ),
    _community(
        "カメラ",
        "mixed",
        things=("レンズ", "三脚", "一眼レフ/一眼", "シャッター速度", "逆光"),
        acts=("RAW現像/現像", "ピント合わせ", "夜景撮り"),
    ),
    _community(
        "ランニング",
        "mixed",
        things=("ランニングシューズ/ランシュー", "心拍数/心拍", "筋肉痛", "ゼッケン"),
        acts=("フルマラソン/フルマラ", "ジョギング/ジョグ", "給水", "完走", "坂道ダッシュ"),
    ),
)


def _shared(kind: Kind, written: str, *labels: str) -> SharedClue:
    return SharedClue(_concepts(kind, written)[0], labels)


SHARED_CLUES: tuple[SharedClue, ...] = (
    _shared("act", "ミーティング/MTG/会議/打ち合わせ", "メーカー", "研究開発", "プログラミング"),
    _shared("thing", "見積もり/見積/みつもり", "メーカー", "自動車", "不動産"),
    _shared("act", "引っ越し/引越し/引越/ひっこし", "不動産", "子育て", "ペット"),
    _shared("thing", "部品/パーツ", "メーカー", "自動車", "ホビー"),
    _shared("act", "塗装/ペイント", "自動車", "ホビー"),
    _shared("thing", "限定版/限定品", "ゲーム", "音楽", "ホビー"),
    _shared("act", "展示", "研究開発", "カメラ", "ホビー"),
    _shared("thing", "コレクション", "音楽", "ホビー"),
    _shared("act", "ドライブ", "自動車", "旅行"),
    _shared("act", "撮影", "カメラ", "旅行", "ペット"),
    _shared("thing", "試作品/試作", "研究開発", "メーカー", "食品"),
    _shared("act", "アップデート/アプデ", "ゲーム", "プログラミング"),
    _shared("act", "散歩/さんぽ/お散歩", "ペット", "子育て", "カメラ"),
    _shared("act", "練習", "音楽", "ランニング"),
    _shared("act", "大会", "ランニング", "ゲーム"),
    _shared("thing", "ベランダ", "園芸", "不動産"),
    _shared("thing", "野菜/やさい", "園芸", "食品", "子育て"),
    _shared("act", "勉強会/勉強", "プログラミング", "就活", "研究開発"),
    _shared("act", "プレゼン/プレゼンテーション", "就活", "研究開発"),
    _shared("act", "予防接種/ワクチン", "ペット", "子育て"),
    _shared("thing", "機材", "カメラ", "音楽"),
    _shared("thing", "天気予報", "ランニング", "旅行", "園芸"),
    _shared("act", "採用", "就活", "メーカー"),
)


def shared_by(label: str) -> tuple[Concept, ...]:
    """Clues that a label has in common with other labels."""
    return tuple(clue.concept for clue in SHARED_CLUES if label in clue.labels)


def _planted(community: Community) -> Planted:
    shared = shared_by(community.label)
    return Planted(
        tuple(form for concept in community.unique for form in concept.forms),
        tuple(form for concept in shared for form in concept.forms),
        tuple(concept.forms for concept in (*community.unique, *shared) if len(concept.forms) > 1),
        community.dependence,
    )


PLANTED: Mapping[str, Planted] = MappingProxyType({community.label: _planted(community) for community in COMMUNITIES})
"""Ground truth of the generated corpus, by label."""
