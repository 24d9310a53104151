"""Encodings of text files: sentences of many languages are read as what they are, or asked about."""

import pytest

from cleantune.data import decoding
from cleantune.data.encodings import readings
from cleantune.errors import UserError

SENTENCES = {
    "Le café était très bon, déjà goûté à la plage. Où êtes-vous allés cet été?": ["cp1252"],
    "Die Qualität ist sehr gut, die Lieferung dauerte länger. Größe fällt klein aus.": ["cp1252"],
    "It’s a “great” film – don’t miss it. I can’t believe it’s over…": ["cp1252"],
    "El producto llegó rápido y está muy bien. ¿Por qué no lo compré antes? Mañana.": ["cp1252"],
    "Produto muito bom, não tenho reclamação. Chegou rápido, ótima condição.": ["cp1252"],
    "Ürün çok güzel ama kargo geç geldi. Işığı yanmıyor, şarjı çabuk bitiyor.": ["cp1254"],
    "Szybka wysyłka, świetna jakość, ale za głośny w nocy. Żółty kolor.": ["cp1250", "iso8859_2"],
    "Výrobek je velmi kvalitní, ale příliš hlučný. Dodání trvalo déle. Žlutá.": ["cp1250"],
    "Nagyon jó termék, gyors szállítás. Őszintén ajánlom, tűrhető.": ["cp1250"],
    "Очень хороший товар, быстрая доставка. Рекомендую всем.": ["cp1251", "koi8_r", "cp866"],
    "Πολύ καλό προϊόν, γρήγορη παράδοση. Το συνιστώ σε όλους.": ["cp1253"],
    "昨天下午的世界纪录打破了，第五次。这部小说讲述家乡的故事，令人难忘。": ["gb18030"],
    "昨天下午的世界紀錄打破了，第五次。這部小說講述家鄉的故事，令人難忘。": ["big5"],
    "とても良い商品です。配送も早かったです。音がうるさいので返品しました。": ["cp932", "euc_jp"],
    "아주 좋은 상품입니다. 배송도 빨랐어요. 소리가 너무 커서 반품했습니다.": ["cp949"],
    "منتج جيد جدا والتوصيل سريع. أنصح به للجميع لكن السعر مرتفع.": ["cp1256"],
    "מוצר טוב מאוד, משלוח מהיר. ממליץ לכולם אבל יקר.": ["cp1255"],
    "สินค้าดีมาก จัดส่งเร็ว แนะนำให้ทุกคน แต่ราคาแพง": ["cp874"],
}


@pytest.mark.parametrize(
    ("text", "encoding"), [(t, e) for t, encodings in SENTENCES.items() for e in encodings]
)
def test_a_sentence_is_read_as_it_was_written(text, encoding):
    lines = f"plain words first\n{text}\n".encode(encoding)
    found = readings(lines, "a.csv")
    assert [lines.decode(reading.encoding) for reading in found] == [f"plain words first\n{text}\n"]
    assert found[0].line == 2


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_unicode_is_certain(encoding):
    content = "label,text\ngood,Größe 漢字\n".encode(encoding)
    (found,) = readings(content, "a.csv")
    assert content.decode(found.encoding).lstrip("\ufeff") == "label,text\ngood,Größe 漢字\n"


def test_two_likely_readings_are_both_returned():
    found = readings("kéz és láb, jó õr\n".encode("cp1252"), "a.csv")
    assert len(found) > 1
    assert {reading.shown for reading in found} >= {"kéz és láb, jó õr", "kéz és láb, jó őr"}


def test_utf8_with_a_wrong_byte_is_not_read_as_something_else():
    content = ("Größe fällt klein aus\n" * 20).encode() + b"caf\xe9\n"
    with pytest.raises(UserError, match=r"a\.csv, line 21: byte 0xe9 is not UTF-8.*1 such place"):
        readings(content, "a.csv")


def test_utf_16_without_a_byte_order_mark_is_refused_with_encodings_that_read_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("label,text\nä,b\n".encode("utf-16-le"))
    with pytest.raises(UserError, match=r"a\.csv: .*Name the encoding utf-16-le or utf-16-be"):
        list(decoding.lines(path, "utf-16", "", None, "a.csv"))
    read = list(decoding.lines(path, "utf-16-le", "", None, "a.csv"))
    assert read == ["label,text\n", "ä,b\n"]
