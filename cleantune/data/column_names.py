"""What columns of labelled files are called: text, label, title, in several languages."""

import re
from collections.abc import Sequence

# The names that columns of labelled files have, the most telling first.
_LABELS = """
label label_text label_name label_str labels class sentiment category intent target emotion topic
classification polarity class_name tag stance toxic spam is_spam sarcasm hate sarcastic y v1 type
rating stars score genre language lang kind verdict outcome humor 标签 类别 分类 情感 标注 类型 類別 標籤 etiket
kategori durum sınıf duygu klasse kategorie bewertung_label etiqueta clase categoría categoria
sentimiento étiquette classe catégorie polarité rótulo rotulo sentimento etichetta метка класс
категория тональность ラベル カテゴリ クラス 라벨 레이블 분류 التصنيف الفئة kelas nhãn
"""
_TEXTS = """
text content sentence review comment message tweet body utterance question query document post sms
review_text reviewtext comment_text clean_text full_text abstract description article headline title
phrase news statement transcript resume resume_str input lyrics complaint feedback v2 x 文本 评论 内容 正文
句子 文章 評論 內容 metin yorum görüş cümle kommentar satz beitrag texto comentario reseña mensaje texte
avis commentaire comentário avaliação testo recensione commento текст отзыв комментарий сообщение
テキスト 本文 レビュー 텍스트 내용 리뷰 النص نص تعليق teks ulasan komentar
"""
_TITLES = """
title headline subject summary heading başlık titel titre título titolo 标题 標題 заголовок タイトル 제목
"""
LABELS, TEXTS, TITLES = (tuple(names.split()) for names in (_LABELS, _TEXTS, _TITLES))

_PARTS = re.compile(r"[^\W_]+")


def is_known(name: str) -> bool:
    """Tell whether a name is one that columns of labelled files have."""
    return any(rank(name, names) is not None for names in (LABELS, TEXTS, TITLES))


def rank(name: str, names: Sequence[str]) -> float | None:
    """Return how telling a column's name is, lower for better; None if it is not among ``names``."""
    low = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold().replace("i̇", "i")
    parts = _PARTS.findall(low)
    whole = "_".join(parts)
    if whole in names:
        return names.index(whole)
    ends = [names.index(part) for part in parts[-1:] + parts[:1] if part in names and len(part) > 2]
    return len(names) + min(ends) if ends else None
