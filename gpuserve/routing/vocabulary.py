"""Words that speak for code or for something else, with weights in log-odds.

Weights come in steps chosen by hand from what a word usually means, not fitted: 3 decides
nearly alone, 1 leans, 0.5 needs company; negative ones speak for prose, travel, cooking, jokes.
Phrases take the place of their words: "zip code" says nothing about "code". Chinese, Japanese
and Korean are looked up as substrings, Cyrillic by the beginnings of words.
"""

from collections.abc import Mapping


def _weights(table: str) -> dict[str, float]:
    """Read lines of `WEIGHT word word …`; an underscore in a word stands for a space."""
    found: dict[str, float] = {}
    for line in table.strip().splitlines():
        weight, *words = line.split()
        for word in words:
            if found.setdefault(word.replace("_", " "), float(weight)) != float(weight):
                raise ValueError(f"{word} has two weights")
    return found


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# One token each, lower case; the last lines are Spanish, French, German, Italian, Portuguese.
WORDS: Mapping[str, float] = _weights("""
3.5 python3 javascript typescript golang kotlin haskell clojure erlang elixir fortran cobol php
3.5 powershell mysql postgresql postgres sqlite mongodb numpy dataframe dataframes c++ c# f#
3.5 jquery django nodejs node.js vue.js react.js next.js reactjs webpack pytest junit matplotlib
3.5 tensorflow pytorch regex regexp dockerfile makefile cmake gcc g++ clang leetcode nginx stdin
3.5 stdout stderr printf println scanf argparse kubectl kubernetes systemd crontab bashrc vim
3.5 grep awk sudo chmod chown rsync xargs localhost fastapi sqlalchemy selenium webdriver
3.5 beautifulsoup asyncio codebase refactor refactoring strtok malloc goroutine postgre cpp
3.5 scikit-learn sklearn keras opencv tkinter pygame pyspark hadoop openssl iptables ffmpeg redis
3.5 quicksort mergesort heapsort dijkstra graphql terraform ansible helm gitlab jenkins github
3.5 bitbucket npm pip conda virtualenv venv
3.5 eslint prettier babel gradle maven hibernate laravel symfony stackoverflow
2.8 python sql html css bash git linux unix ubuntu debian javac jvm perl lua matlab
2.8 docker json.loads substring codepen multithreading mutex deadlock segfault
2.8 pl/sql plsql t-sql jdbc sql-server ssh cron css3 html5 es6 ajax dom xpath xml yaml toml utf-8
2.8 ascii unicode unittest
2.8 debug debugging debugger traceback stacktrace compiler compile compiles compiling
2.8 nginx.conf websocket websockets middleware backend frontend microservice microservices
2.8 coroutine nullpointerexception typeerror valueerror keyerror pandas
2.8 subprocess filesystem symlink symlinks tarball gzip hostname inode
2.0 oracle ms-access sed java ruby scala angular svelte flutter android-studio xcode vba tuple
2.0 tuples
2.0 array arrays numpy.array recursion recursive recursively boolean regexes iterate iterator
2.0 iterates iterating parser parse parses parsing lambda async callback hashmap hashset
2.0 hashtable linkedlist arraylist algorithm algorithms concatenate concatenated palindrome
2.0 palindromes fibonacci factorial filename filenames subdirectory subdirectories directory
2.0 directories codes.py programming coding coder pseudocode snippet snippets api apis endpoint
2.0 endpoints repo repository commit commits rebase localstorage timestamp timestamps
2.0 datetime csv json whitespace delimiter delimited newline newlines bitwise
2.0 integer integers floats floating-point int str bool struct enum typedef namespace
2.0 constructor destructor inheritance polymorphism encapsulation singleton getter setter
2.0 overload overloading override subclass superclass instantiate decorator decorators
2.0 database databases schema indexes webpage checkbox dropdown
2.0 navbar tooltip textarea textbox stylesheet flexbox bootstrap onclick href
2.0 executable runtime garbage-collector plugin plugins cli gui ide
2.0 crud orm rest-api restful oauth jwt oauth2 backtick unzip tar
2.0 multiprocessing threads threading semaphore concurrency serialization serialize deserialize
2.0 gitignore devops ci/cd daemon wget curl symlinked lint linter
2.0 matplotlib.pyplot numpy's substrings subarray subsequence memoization
1.3 url urls query queries excel http loop loops string strings variable variables syntax
1.3 command-line terminal script scripts
1.3 function functions bug bugs null class classes method methods code column columns
1.3 pointer pointers byte bytes binary hash heap dictionary dict keys sort sorts sorted sorting
1.3 print prints append file files folder folders server servers thread react flask implement
1.3 implementation implementing spring rust shell argument arguments parameter parameters
1.3 library module modules import exception exceptions deploy deployment deploying config
1.3 configuration yarn element elements attribute matrix hex hexadecimal uppercase
1.3 lowercase prime primes duplicates duplicate ascending descending encrypt
1.3 decrypt encryption parsed async-await website app button div img
1.3 iteration validate validation linked refactored rename extension permissions kernel
1.3 executes execute runs install installing upgrade merge branch unit-test vector
1.3 index stack queue tree node nodes graph path username mac-address subnet
0.7 program programs write returns return output input inputs list lists table tables rows row
0.7 value values object objects interface type types replace remove delete count
0.7 length error errors select fetch convert extract find search filter create given
0.7 specified contains containing contain current all software user users key set reverse
0.7 line lines character characters random split join host process processes modified
0.7 swap multiply even odd sum maximum minimum largest smallest occurrence occurrences
0.7 display application develop construct calculates takes accepts accept checks check
-0.6 my he she his her they their people feel think family friend school city country
-0.6 day week year years money price buy food company business market product customers
-0.6 explain describe discuss summarize important why who where sentence
-0.6 word words question answer conversation name names famous company's role opinion
-1.2 story poem poems essay novel song lyrics movie film book books speech letter email
-1.2 recipe cook cooking restaurant hotel flight travel trip vacation weather joke jokes funny
-1.2 marketing customer sales advertising brand blog article paragraph passage translate grammar
-1.2 noun verb adjective adjectives synonym synonyms rhyme haiku headline slogan tweet
-1.2 history president war government law legal court lawyer judge religion god church bible
-1.2 health doctor patient disease medical medicine diet exercise workout sleep pain
-1.2 animal animals dog cat bird fish plant garden flower wife husband mother father
-1.2 child children kids baby love relationship wedding birthday party holiday christmas
-1.2 philosophy psychology physics chemistry biology economics politics climate energy
-1.2 resume career job interview salary manager employee employees colleague colleagues
-1.2 theorem proof prove integral derivative equation equations polynomial geometry triangle
-1.2 probability velocity acceleration electrons dialogue character's paraphrase
-1.2 apples miles hours cost costs dollars percent percentage earn earns per total
-1.2 bank account card credit balance bill insurance tax taxes meeting reminder alarm calendar
-1.2 music play guitar concert sport football soccer team game games player
-1.2 screenplay actor scene narrator fantasy wizard dragon pirate detective
-2.5 snake snakes zoo bamboo coffee island jewelry habitat venom
3.0 código codigo cadena cadenas archivo archivos fichero ficheros función funcion bucle
1.5 ciclo
3.0 arreglo matriz fichier fichiers fonction boucle chaîne tableau algorithme datei dateien
3.0 zeichenkette schleife funktion skript quellcode codice funzione stringa algoritmo
3.0 arquivo arquivos função funcao vetor laço consulta diccionario directorio répertoire
3.0 verzeichnis programmieren programmation programación variável tupla tuplas
2.0 lista listas clase objeto programa columna columnas elemento elementos número carpeta
2.0 eliminar ordenar convertir imprimir leer clave liste classe programme programm
-1.2 historia poema ensayo carta receta libro película viaje empresa histoire poème lettre
-1.2 recette livre voyage geschichte gedicht brief rezept buch reise lettera ricetta
-1.2 viaggio receita livro viagem explique beschreibe
""")

# Two or three tokens; they count instead of their words.
PHRASES: Mapping[str, float] = _weights("""
3.5 write_code source_code current_directory home_directory working_directory command_line
3.5 regular_expression regular_expressions linked_list binary_tree binary_search hash_table
3.5 hash_map unit_test unit_tests pull_request merge_conflict stack_trace stack_overflow for_loop
3.5 while_loop time_complexity space_complexity data_structure data_structures code_review
3.5 sorting_algorithm shell_script bash_script shell_command in_c in_golang c_program c_code
3.5 null_pointer race_condition memory_leak list_comprehension foreign_key primary_key left_join
3.5 inner_join visual_basic visual_studio vs_code ruby_on_rails spring_boot react_component
3.5 react_native web_page web_scraping web_scraper rest_api api_key dynamic_programming
3.5 depth_first breadth_first dependency_injection design_pattern design_patterns
3.5 object_oriented functional_programming programming_language type_error syntax_error
3.5 environment_variable environment_variables config_file log_file text_file csv_file json_file
3.5 code_snippet this_code my_code the_code following_code code_to program_to program_that
3.5 function_to function_that script_to script_that query_to method_that method_to class_that
3.5 class_called ssh_key load_balancer port_number ip_address crash_log build_error cron_job
2.0 in_go go_program go_code in_r in_swift in_rust in_ruby rust_code rust_program rust_function
1.0 list_of
2.0 web_app web_application mobile_app chrome_extension landing_page operating_system
2.0 two_numbers given_string a_string input_string html_page sql_query git_commit
2.0 an_algorithm edit_the how_to_install file_named files_in all_files find_all
2.0 user_input random_number edge_case edge_cases error_handling unit_testing
-0.5 act_as want_you code_switching qr_code
-2.5 penal_code zip_code postal_code dress_code area_code country_code bar_code civil_code
-2.5 criminal_code tax_code building_code genetic_code morse_code promo_code discount_code
-2.5 coupon_code access_code door_code cheat_code code_of code_red vinci_code code_name
-2.5 code_word secret_code moral_code honor_code honour_code ethical_code color_code blue_code
-2.5 labor_code labour_code health_code fire_code pin_code verification_code source_of
-2.5 ball_python burmese_python monty_python pet_python python_eat pythons_eat reticulated_python
-2.5 python_bite rock_python green_python island_of java_sea java_island east_java central_java
-2.5 java_coffee cup_of_java javan_rhino ruby_ring ruby_slippers ruby_necklace taylor_swift
-2.5 jonathan_swift red_panda giant_pandas giant_panda movie_script film_script play_script
-2.5 training_program fitness_program exercise_program tv_program television_program
-2.5 workout_program loyalty_program exchange_program degree_program space_program
-2.5 weight_loss social_security customer_service function_of heart_function brain_function
-2.5 social_class middle_class yoga_class first_class cooking_class high_school string_quartet
-2.5 string_theory family_tree christmas_tree react_to dining_table table_tennis
-2.5 stock_price bug_bite stink_bug bed_bugs rust_stains remove_rust rust_belt rust_from
-2.5 job_description cover_letter software_company a_programmer programmer_who programmers_who
-2.5 software_developer software_engineer software_engineers developers_who about_programmers
-2.5 shopping_list bucket_list to-do_list key_points short_story sea_shell file_taxes
-2.5 tax_return python_documentary tree_frog about_a
""")

# Substrings of Chinese, Japanese and Korean.
SUBSTRINGS: Mapping[str, float] = _weights("""
3.0 代码 编程 編程 字符串 数组 數組 正则 报错 编译 变量 脚本 数据库 遍历 算法 链表 二叉树 排序算法
3.0 调试
3.0 伪代码 源码 前端 后端 接口文档 网页 目录下 文件夹 命令行 コード 関数 配列 文字列 正規表現
3.0 ディレクトリ スクリプト プログラミング コンパイル 変数 データフレーム デバッグ コマンド
3.0 코드 함수 배열 문자열 정규식 스크립트 디버그 컴파일 변수 프로그래밍 알고리즘
2.0 程序 函数 循环 查询语句 服务器 部署 异常 递归 整数列表 プログラム リスト ファイル エラー 実装
2.0 クラス
2.0 メソッド インストール 辞書 要素 取得 キー 프로그램 파일 클래스 오류 구현 리스트 디렉터리
-1.5 故事 诗 文章 句子 翻译 小说 邮件 电影 音乐 历史 旅行 食谱 健康 邮政编码 公司 客户 物語 小説
-1.5 歴史
-1.5 語 料理 이야기 소설 역사 여행 요리 편지 法典 刑法 民法 翻訳 描述 短文 总结 产品
""")

# Beginnings of Cyrillic words.
STEMS: Mapping[str, float] = _weights("""
3.0 массив скрипт регуляр питон датафрей компилир отлад рекурс алгорит библиот переменн
3.0 подстр столбц словар каталог джанго
1.4 функци строк файл программ цикл запрос класс метод списо списк код кода коде значени
1.4 элемент удал объект кортеж преобраз провер ошибк команд директор
-1.2 истори расск стих письм рецепт войн стран город люд век компан жизн учен
""")

# Words that mean something else in such company; there they count for nothing.
HOMONYMS: Mapping[str, frozenset[str]] = {
    word: _words(company)
    for word, company in {
        "python": "snake snakes ate eat eats eating pet pets mouse mice rat feed feeding bite bit"
        " tank terrarium species eggs wild jungle skin shed zoo reptile reptiles keeper",
        "pandas": "bamboo zoo giant bear bears china wild species eat endangered cubs",
        "java": "coffee island indonesia bean beans roast jakarta bali volcano espresso visit trip",
        "rust": "car metal iron steel bike bicycle vinegar paint corrosion stain stains chain pan",
        "ruby": "ring necklace gem gems jewelry diamond stone sapphire slippers earrings",
        "swift": "taylor album concert bird birds song songs tour gulliver",
        "shell": "sea beach egg eggs turtle taco tacos oil snail crab company gasoline",
        "script": "movie film play youtube video scene actors podcast presentation screenplay stage"
        " sales call wedding radio handwriting",
        "bug": "bed bite bites insect insects garden stomach flu",
        "bugs": "bed bite bites insect insects garden plants bunny",
        "react": "people audience reaction emotionally news public chemical acid",
        "spring": "season flowers summer winter garden break water festival cleaning",
        "string": "guitar violin quartet cello bikini theory lights cheese",
        "strings": "guitar violin cello harp puppet",
        "tree": "christmas forest leaves plant oak apple roots garden pine fruit",
        "branch": "tree bank government legislative army olive",
        "terminal": "airport cancer illness bus flight ferry",
        "oracle": "delphi prophecy greek apollo ancient",
        "hash": "browns corned potatoes",
        "server": "restaurant waiter waitress tip tips diner",
        "kernel": "corn popcorn",
        "library": "books book librarian borrow public city reading",
        "class": "yoga school teacher students student middle social classmates homework english",
        "classes": "yoga school teacher students social cooking evening",
        "function": "heart brain kidney liver derivative integral continuous organ social",
        "table": "dinner restaurant reservation wooden kitchen chairs dining reserve",
        "code": "dress morse building postal genetic honor area",
        "program": "training fitness exercise workout weight tv degree university exchange",
        "stack": "books pancakes chips",
        "heap": "scrap compost junk",
        "button": "shirt coat jacket sew",
        "keys": "car house piano lost locked",
        "index": "finger stock mass glycemic consumer",
        "commit": "crime suicide murder marriage relationship",
        "thread": "needle sewing",
        "query": "research essay manuscript agent",
    }.items()
}

# "Write … function": a request for a program, whatever stands between.
VERBS = _words("""
    write create implement build develop design construct generate make code fix debug edit
    modify rewrite optimize optimise port add escribe crea écris schreibe scrivi escreva
""")
THINGS = _words("""
    function functions program script class method query code algorithm command regex app api
    test tests loop webpage website module struct statement programa programm fonction funktion
    funzione
""")
# Functions that a coding agent brings along, and nobody else.
CODING_TOOLS = _words("""
    bash shell terminal execute_command run_command run_terminal_cmd str_replace_editor
    str_replace_based_edit_tool apply_patch apply_diff edit_file write_file read_file
    write_to_file replace_in_file create_file list_files list_code_definition_names
    codebase_search grep_search search_files file_search glob grep edit multiedit notebookedit
    git_diff git_status git_commit run_tests python code_interpreter execute_python
    replace_string_in_file run_in_terminal local_shell
""")
